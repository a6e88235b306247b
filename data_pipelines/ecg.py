"""Graphics drawn into the sector: ECG traces, which tell the phase, and still marks and letters.

Both are thinner than speckle's surroundings allow and stay what they are while tissue moves on: a
trace until its cursor comes round again, marks for ever. What is found is cut out of the sector,
the same pixels in every frame, for a gap that moved would tell the phase as well.
"""

import cv2
import numpy as np

LAST, FRAMES = 96, 24  # of the last so many frames, so many are looked at
FEWEST = 8  # frames: in fewer, nothing moves enough
MOVING = 0.8  # share of the sector that is not marks, or all of it is still
NEAR = 0.3  # share of the sector's rows, from above, where still reverberation looks like graphics
RARE = 98.5  # percentile of persistence among tissue
LEAST = 0.4  # persistence of anything drawn
MARK = 5.0  # persistence of crisp graphics, through all frames
SPREAD = 10.0  # grey levels that a still pixel's contrast may vary
TALL = 0.25  # share of the sector's rows: more than a trace has
WIDE, JUMP = 0.4, 0.011  # of the sector's width and height: tissue is narrower, or leaps farther
EVIDENCE = 0.7  # phantoms without a trace reach 0.58, with one 0.8 to 2.5
SPIKES = 0.012  # of the sector's height: lines and arcs are smoother


def cut_graphics(frames: np.ndarray, sector: np.ndarray) -> tuple[np.ndarray, bool]:
    """The sector without what is drawn into it, and whether that was an ECG trace.

    `frames` is [T, H, W] or [T, H, W, 3] uint8, `sector` [H, W] bool, as is what returns. A trace
    takes the whole width of its rows, where more of it may appear.
    """
    if len(frames) < FEWEST:
        return sector, False
    rows, columns = np.flatnonzero(sector.any(1)), np.flatnonzero(sector.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = sector[box]
    thin, reach = thin_structures(frames[-LAST:], box)
    marks = (persistence(thin, len(thin)) > MARK).astype(np.uint8)
    left = inside & ~cv2.dilate(marks, np.ones((reach, reach))).astype(bool)
    if left.sum() < MOVING * inside.sum():  # the picture is still, or nearly
        return sector, False
    band = find_trace(persistence(thin, max(len(thin) // 2, 2)), inside, reach)
    if band is not None:
        left[band] = False
    result = np.zeros_like(sector)
    result[box] = left
    return result, band is not None


def thin_structures(frames: np.ndarray, box: tuple[slice, slice]) -> tuple[np.ndarray, int]:
    """How much brighter than all around it each pixel is, [n, h, w] uint8, if that is thin.

    Also the side in pixels of the square that would be too thick. Colours count by their
    strongest channel: a green trace is bright.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES).astype(int))
    side = 2 * round((box[0].stop - box[0].start) / 120) + 3
    kernel = np.ones((side, side), np.uint8)
    images = (np.ascontiguousarray(frames[(i, *box)]) for i in chosen)
    bright = (cv2.max(cv2.max(*cv2.split(i)[:2]), cv2.split(i)[2]) if i.ndim == 3 else i
              for i in images)  # fmt: skip
    return np.stack([cv2.morphologyEx(i, cv2.MORPH_TOPHAT, kernel) for i in bright]), side


def persistence(thin: np.ndarray, count: int) -> np.ndarray:
    """[h, w]: the least contrast in `count` frames on end, over its range there; the best of all."""
    low, high = running(np.minimum, thin, count), running(np.maximum, thin, count)
    low = low.astype(np.float32)
    return np.where(low >= SPREAD, low / (high - low + SPREAD), 0).max(0)


def running(extreme: np.ufunc, stack: np.ndarray, count: int) -> np.ndarray:
    """Minimum or maximum of each `count` neighbours along the first axis."""
    width = 1
    while 2 * width <= count:
        stack, width = extreme(stack[:-width], stack[width:]), 2 * width
    rest = count - width
    return extreme(stack[:-rest], stack[rest:]) if rest else stack


def find_trace(persistent: np.ndarray, inside: np.ndarray, reach: int) -> slice | None:
    """The rows of an ECG trace in [h, w] persistence, or None.

    A trace is wider than high, runs on without a gap, and is uneven: lines, arcs and the outline
    of a colour box are smooth, and tell no phase.
    """
    height, width = inside.shape
    deep = cv2.erode(inside.astype(np.uint8), np.ones((reach, reach)), borderValue=0)
    deep[: int(NEAR * height)] = 0
    among = persistent[deep > 0]
    if not len(among):
        return None
    rare = max(float(np.percentile(among, RARE)), LEAST)
    drawn = ((persistent > rare) & (deep > 0)).astype(np.uint8)
    linked = cv2.dilate(drawn, np.ones((3, 2 * reach + 1), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(linked)
    top, bottom = height, 0
    for part in range(1, count):
        if stats[part, cv2.CC_STAT_WIDTH] < WIDE * width / 4:
            continue
        y, x = np.nonzero((labels == part) & (drawn > 0))
        if is_trace(x, y, persistent[y, x] / rare, height, width, reach):
            top, bottom = min(top, y.min()), max(bottom, y.max())
    if top > bottom:
        return None
    margin = reach // 2 + (bottom - top) // 8
    return slice(max(top - margin, 0), bottom + margin + 1)


def is_trace(
    x: np.ndarray, y: np.ndarray, strength: np.ndarray, height: int, width: int, reach: int
) -> bool:
    """Whether pixels (x, y), `strength` times as persistent as rare tissue, are a trace."""
    extent = np.ptp(x) + 1
    columns, first, counts = np.unique(x, return_inverse=True, return_counts=True)
    if np.ptp(y) > TALL * height or len(columns) < 3 or np.median(counts) > 0.6 * reach:
        return False
    best = np.zeros(len(columns))
    np.maximum.at(best, first, strength)
    middle = np.bincount(first, y) / counts
    across = (columns - columns.mean()) / extent
    uneven = middle - np.polyval(np.polyfit(across, middle, 2), across)
    spikes = np.ptp(np.percentile(uneven, (2, 98)))
    jumps = np.percentile(np.abs(np.diff(middle)), 80) / (JUMP * height)
    gapless, wide = len(columns) / extent, min(extent / (WIDE * width), 1.0)
    evidence = np.median(best) * gapless * wide / (1 + jumps)
    return bool(evidence > EVIDENCE and spikes > max(3.0, SPIKES * height))
