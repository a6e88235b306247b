"""Stored images, down to their bytes: exactly one picture each, and black outside the sector."""

import functools
import re
from collections.abc import Iterator

import numpy as np
import simplejpeg
import zstandard

from data_pipelines import records
from data_pipelines.shards import DatasetInfo

# JPEG rounds a block of 8×8 pixels as one: where the sector's edge crosses it, a little spills
# over. At quality 95 that is up to 10 grey levels on simulated clips and 23 on black and white
# noise; a block that the sector does not touch stays exactly black.
SPILL = 32
BLOCK = 8
SEGMENTS = {0xFE: "a comment", 0xE0: "JFIF data", 0xE1: "EXIF or XMP", 0xED: "Photoshop data"}


def decode_image(data: bytes, info: DatasetInfo) -> tuple[np.ndarray | None, list[str]]:
    """A stored frame → ([size, size(, 3)] uint8, what else its bytes hold).

    None instead of the image if it is not decoded: damaged, or of another size.
    """
    shape = (info.size, info.size, 3) if info.colour else (info.size, info.size)
    if info.encoding == "zstd":
        pixels, wrong = decompress(data, int(np.prod(shape)))
        image = np.frombuffer(pixels, np.uint8).reshape(shape) if pixels else None
        return image, wrong
    wrong = list(beside_the_picture(data, shape))
    try:
        header = simplejpeg.decode_jpeg_header(data)
        if header[:2] != shape[:2] or header[2] != ("YCbCr" if info.colour else "Gray"):
            return None, [*wrong, "not an image of the data set's size and channels"]
        image = np.empty(shape, np.uint8)
        records.decode_frame(data, "jpeg", image)
    except ValueError:  # the decoder tells of extra bytes inside the picture, too
        return None, [*wrong, "not decodable as exactly one JPEG"]
    return image, wrong


def decompress(data: bytes, length: int) -> tuple[bytes | None, list[str]]:
    """One zstd frame of `length` bytes, and whether anything else is there."""
    try:
        # Looked at before memory is taken: a frame may claim any size.
        announced = zstandard.frame_content_size(data)
        if announced != length:
            return None, ["not an image of the data set's size and channels"]
        decoder = zstandard.ZstdDecompressor().decompressobj()
        pixels = decoder.decompress(data)
    except zstandard.ZstdError:
        return None, ["not decodable as zstd"]
    if len(pixels) != length:
        return None, ["cut short"]
    if decoder.unused_data:
        return pixels, [f"{len(decoder.unused_data)} bytes behind the picture"]
    return pixels, []


@functools.cache
def own_header(shape: tuple[int, ...]) -> bytes:
    """The bytes with which every JPEG of ours of this shape begins, up to its compressed data."""
    data = records.encode_frame(np.zeros(shape, np.uint8), "jpeg")
    scan = data.index(b"\xff\xda")
    return data[: scan + 2 + int.from_bytes(data[scan + 2 : scan + 4])]


def beside_the_picture(data: bytes, shape: tuple[int, ...]) -> Iterator[str]:
    """Metadata segments, foreign tables and trailing bytes of a JPEG."""
    header = own_header(shape)
    if not data.startswith(header):
        position, found = 2, False
        while data[position : position + 1] == b"\xff" and data[position + 1] != 0xDA:
            marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4])
            segment = data[position : position + 2 + length]
            if (marker == 0xFE or 0xE0 <= marker <= 0xEF) and segment not in header:
                found = True
                yield f"{SEGMENTS.get(marker, 'application data')} in its header"
            position += 2 + max(length, 2)
        if not found:
            yield "a header that this encoder does not write"
        scan = data.find(b"\xff\xda", position)
        body = max(scan, 0) + 2
    else:
        body = len(header)
    end = re.compile(rb"\xff[^\x00\xd0-\xd7]").search(data, body)
    if end is None or end[0] != b"\xff\xd9":
        yield "compressed data that do not end as a JPEG's"
    elif end.end() != len(data):
        yield f"{len(data) - end.end()} bytes behind the picture"


def check_image(image: np.ndarray, sector: np.ndarray, encoding: str) -> list[str]:
    """Whether anything is outside the sector: [H, W(, 3)] uint8 and [H, W] bool."""
    grey = image if image.ndim == 2 else image.max(-1)
    outside = ~sector
    if encoding == "jpeg":
        beyond = ~touched(sector.tobytes(), len(sector))
        if grey[outside & ~beyond].max(initial=0) > SPILL:
            return ["pixels outside the sector"]
        outside = beyond
    return ["pixels outside the sector"] if grey[outside].any() else []


@functools.lru_cache(maxsize=4)
def touched(sector: bytes, size: int) -> np.ndarray:
    """[size, size] bool: pixels of those blocks in which the sector has a pixel."""
    blocks = -(-size // BLOCK)
    padded = np.zeros((blocks * BLOCK, blocks * BLOCK), bool)
    padded[:size, :size] = np.frombuffer(sector, bool).reshape(size, size)
    hit = padded.reshape(blocks, BLOCK, blocks, BLOCK).any((1, 3))
    return np.repeat(np.repeat(hit, BLOCK, 0), BLOCK, 1)[:size, :size]


def check_mask(data: bytes, sector: np.ndarray) -> list[str]:
    """A stored label map: the picture's size, known structures, nothing outside the sector."""
    pixels, wrong = decompress(data, sector.size)
    if pixels is None:
        return wrong
    mask = np.frombuffer(pixels, np.uint8).reshape(sector.shape)
    if mask.max() >= len(records.STRUCTURES):
        wrong = [*wrong, "values that are no structure"]
    if mask[~sector].any():
        wrong = [*wrong, "labels outside the sector"]
    return wrong
