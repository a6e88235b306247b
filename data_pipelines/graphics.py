"""What is drawn into a sector: still marks and letters, and ECG traces, which tell the phase.

Both are thinner than speckle's surroundings allow and stay what they are while tissue moves on: a
trace until its cursor comes round again, marks for long. What is found is cut out of the sector,
the same pixels in every frame, for a gap that moved would tell the phase as well.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines.clip import Rejected
from data_pipelines.ecg import find_trace
from data_pipelines.marks import find_marks
from data_pipelines.thin import strongest, thin_parts, thin_side

FEWEST = 8  # frames: in fewer, nothing moves enough to tell what stays
EVERY_OTHER = 48  # frames: of so many or more, every other one is looked at
MOVING = 0.8  # share of the sector that is not marks, or all of it is still
KEPT = 0.5  # share of the sector that must be left
ROWS = 320  # that are looked at, at most
RECENT, TRACED = 48, 24  # of the last so many that are looked at, so many are searched for a trace


def cut_graphics(frames: Sequence[np.ndarray], sector: np.ndarray) -> tuple[np.ndarray, bool]:
    """The sector without what is drawn into it, and whether that was an ECG trace.

    `frames` are [H, W] or [H, W, 3] uint8, `sector` is [H, W] bool, as is what returns. A trace
    takes the whole width of its rows, where more of it may appear. Of long clips every other frame
    is looked at. Crisp letters that show for 20 frames are found; what is dim, or bold and shown
    for part of the clip only, may be missed.

    Raises:
      Rejected: too few frames or too still to tell, or hardly anything would be left.
    """
    if len(frames) < FEWEST:
        raise Rejected("no_sector", f"fewer than {FEWEST} frames")
    rows, columns = np.flatnonzero(sector.any(1)), np.flatnonzero(sector.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    looked = frames[len(frames) % 2 :: 2] if len(frames) >= EVERY_OTHER else frames
    images = [reduced(strongest(frame[box])) for frame in looked]
    inside = reduced(sector[box].astype(np.uint8)) > 0
    side = thin_side(images)
    thin = thin_parts(images, side)
    cut = find_marks(images, thin, side, inside)
    if np.count_nonzero(inside & ~cut) < MOVING * np.count_nonzero(inside):
        raise Rejected("no_sector", "too much of it is still")
    recent = range(len(images))[-RECENT:]
    chosen = np.unique(np.linspace(recent[0], recent[-1], TRACED).astype(int))
    band = find_trace(
        *(np.stack([some[i] for i in chosen]) for some in (images, thin)), side, inside
    )
    if band is not None:
        cut[band] = True
    if np.count_nonzero(inside & ~cut) < KEPT * np.count_nonzero(inside):
        raise Rejected("no_sector", "too much is drawn into it")
    result = sector.copy()
    result[box] &= cv2.resize(cut.astype(np.float32), sector[box].shape[::-1]) == 0
    return result, band is not None


def reduced(image: np.ndarray) -> np.ndarray:
    """[h, w] uint8 of at most `ROWS` rows: what is stored hardly has more."""
    scale = ROWS / len(image)
    if scale >= 1:
        return image
    method = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR  # the faster one, as good here
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
