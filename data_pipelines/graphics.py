"""What is drawn into a sector: still marks and letters, and ECG traces, which tell the phase.

Both are thinner than speckle's surroundings allow and stay what they are while tissue moves on: a
trace until its cursor comes round again, marks for long. What is found is cut out of the sector,
the same pixels in every frame, for a gap that moved would tell the phase as well.
"""

import numpy as np

from data_pipelines.clip import Rejected
from data_pipelines.ecg import find_trace
from data_pipelines.marks import find_marks
from data_pipelines.thin import thin_structures

FEWEST = 8  # frames: in fewer, nothing moves enough to tell what stays
EVERY_OTHER = 48  # frames: of so many or more, every other one is looked at
MOVING = 0.8  # share of the sector that is not marks, or all of it is still
KEPT = 0.5  # share of the sector that must be left
RECENT, TRACED = 48, 24  # of the last so many that are looked at, so many are searched for a trace


def cut_graphics(frames: np.ndarray, sector: np.ndarray) -> tuple[np.ndarray, bool]:
    """The sector without what is drawn into it, and whether that was an ECG trace.

    `frames` is [T, H, W] or [T, H, W, 3] uint8, `sector` [H, W] bool, as is what returns. Of long
    clips every other frame is looked at, so that marks which show for 12 frames are found. A trace
    takes the whole width of its rows, where more of it may appear.

    Raises:
      Rejected: too few frames or too still to tell, or hardly anything would be left.
    """
    if len(frames) < FEWEST:
        raise Rejected("no_sector", f"fewer than {FEWEST} frames")
    looked = frames[len(frames) % 2 :: 2] if len(frames) >= EVERY_OTHER else frames
    rows, columns = np.flatnonzero(sector.any(1)), np.flatnonzero(sector.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = sector[box]
    left = inside & ~find_marks(looked, box)
    if left.sum() < MOVING * inside.sum():
        raise Rejected("no_sector", "too much of it is still")
    recent = looked[-RECENT:]
    chosen = np.unique(np.linspace(0, len(recent) - 1, TRACED).astype(int))
    band = find_trace(*thin_structures(recent[chosen], box), inside)
    if band is not None:
        left[band] = False
    if left.sum() < KEPT * inside.sum():
        raise Rejected("no_sector", "too much is drawn into it")
    result = np.zeros_like(sector)
    result[box] = left
    return result, band is not None
