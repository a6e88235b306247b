"""Near-duplicates: clips that look the same although their pixels differ.

A clip that was exported twice, through another codec, has another id. What it shows is told by the
signs of its low spatial frequencies, which a codec hardly changes. Of 256 simulated clips of 112²
pixels (64 persons, 4 views) the hashes of one clip before and after JPEG of quality 30 differed in
at most 8 of 128 bits, those of two persons in the same view in 10 or more, mostly in far more. So
what is found is worth a look and proves nothing, and a clip that suffered more is not found.
"""

import collections

import cv2
import numpy as np

HASH_BYTES = 16
BANDS = 8  # of two hashes that differ in fewer bits, at least one band is equal
# Of the hashes that share a band, a new one is compared with so many, the last ones: what thousands
# share (black frames) would take for ever. In such a crowd a pair may be missed.
CROWD = 64


def look_hash(frame: np.ndarray, sector: np.ndarray) -> bytes:
    """[H, W] uint8 frame and its [H, W] bool sector → 128 bits: signs of its low frequencies."""
    small = cv2.resize(np.where(sector, frame, 0), (64, 64), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[1:9, 1:17]
    return np.packbits(low > np.median(low)).tobytes()


def near_pairs(hashes: list[bytes]) -> list[tuple[int, int]]:
    """Index pairs of hashes that differ in fewer than BANDS bits.

    An index is second in one pair at most, with the first that it is like of those it is compared
    with: of all, where no more than CROWD share a band.
    """
    bands: dict[tuple[int, bytes], list[int]] = collections.defaultdict(list)
    numbers = [int.from_bytes(look) for look in hashes]
    width = HASH_BYTES // BANDS
    pairs = []
    for index, look in enumerate(hashes):
        keys = [(band, look[band * width : (band + 1) * width]) for band in range(BANDS)]
        seen = {other for key in keys for other in bands[key][-CROWD:]}
        close = [o for o in seen if (numbers[o] ^ numbers[index]).bit_count() < BANDS]
        if close:
            pairs.append((min(close), index))
        for key in keys:
            bands[key].append(index)
    return pairs
