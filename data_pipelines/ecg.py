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
RARE = 97.5  # percentile of persistence among tissue
LEAST = 0.4  # persistence of anything drawn
MARK = 3.0  # persistence of crisp graphics, through all frames
SPREAD = 10.0  # grey levels that a still pixel's contrast may vary
TALL = 0.25  # share of the sector's rows: more than a trace has
WIDE, JUMP = 0.4, 0.011  # of the sector's width and height: tissue is narrower, or leaps farther
BRIEF = 3.0  # how far above rare tissue what lasts for a quarter must be
# How far above rare tissue to look, and what to link there: rows and columns, in widths of a line.
LEVELS = ((BRIEF, 2, 2), (4.0, 2, 2), (2.0, 1, 1), (1.0, 0, 1))
EVIDENCE = 1.0  # phantoms and samples reach 0.92 without a trace, from 1.07 to 22 with one
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
    bright, thin, reach = thin_structures(frames[-LAST:], box)
    marks = (persistence(bright, thin, len(thin)) > MARK).astype(np.uint8)
    left = inside & ~cv2.dilate(marks, np.ones((5, 5))).astype(bool)
    if left.sum() < MOVING * inside.sum():  # the picture is still, or nearly
        return sector, False
    lasting, brief = (persistence(bright, thin, len(thin) // part) for part in (2, 4))
    band = find_trace(lasting, brief, inside, reach)
    if band is not None:
        left[band] = False
    result = np.zeros_like(sector)
    result[box] = left
    return result, band is not None


def thin_structures(
    frames: np.ndarray, box: tuple[slice, slice]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Brightness of some frames' box, and by how much it exceeds all around where that is thin.

    Both [n, h, w] uint8; and the side in pixels of the square that is no longer thin. Colours
    count by their strongest channel: a green trace is bright.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES).astype(int))
    side = 2 * round((box[0].stop - box[0].start) / 120) + 3
    kernel = np.ones((side, side), np.uint8)
    images = np.stack([strongest(frames[(i, *box)]) for i in chosen])
    return images, np.stack([cv2.morphologyEx(i, cv2.MORPH_TOPHAT, kernel) for i in images]), side


def strongest(image: np.ndarray) -> np.ndarray:
    """[h, w(, 3)] → [h, w]: the strongest channel of each pixel."""
    if image.ndim == 2:
        return image
    red, green, blue = cv2.split(np.ascontiguousarray(image))
    return cv2.max(cv2.max(red, green), blue)


def persistence(bright: np.ndarray, thin: np.ndarray, count: int) -> np.ndarray:
    """[h, w]: least contrast of `count` frames on end over its brightness' range; best of all."""
    low = running(np.minimum, thin, count)
    some = low.max(0) >= SPREAD  # few pixels: divisions are dear
    ranges = running(np.maximum, bright, count) - running(np.minimum, bright, count)
    least = low[:, some].astype(np.float32)
    result = np.zeros(some.shape, np.float32)
    result[some] = np.where(least >= SPREAD, least / (ranges[:, some] + SPREAD), 0).max(0)
    return result


def running(extreme: np.ufunc, stack: np.ndarray, count: int) -> np.ndarray:
    """Minimum or maximum of each `count` neighbours along the first axis."""
    width = 1
    while 2 * width <= count:
        stack, width = extreme(stack[:-width], stack[width:]), 2 * width
    rest = count - width
    return extreme(stack[:-rest], stack[rest:]) if rest else stack


def find_trace(
    persistent: np.ndarray, brief: np.ndarray, inside: np.ndarray, reach: int
) -> slice | None:
    """The rows of an ECG trace in [h, w] persistence, or None.

    Found in what lasts for half the frames; what lasts for a quarter, `brief`, may belong to it.

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
    lasting = np.where(deep > 0, persistent / rare, 0)
    brief = np.where(deep > 0, brief / (2 * rare), 0)  # tissue lasts a quarter twice as often
    for strength, (least, up, along) in zip((brief, *3 * [lasting]), LEVELS, strict=True):
        drawn = strength > least
        reached = np.ones((up * reach + 3, 2 * along * reach + 1), np.uint8)
        linked = cv2.dilate(drawn.astype(np.uint8), reached)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(linked)
        traces, others = [], np.zeros((height, width), np.uint8)
        for part in range(1, count):
            if stats[part, cv2.CC_STAT_WIDTH] < WIDE * width / 4:
                continue
            y, x = np.nonzero((labels == part) & drawn)
            drawing, spikes = evidence(x, y, strength[y, x], height, width)
            if drawing < EVIDENCE:
                continue
            if np.ptp(y) <= TALL * height and spikes > max(3.0, SPIKES * height):
                traces.append(y)
            else:
                others[y, x] = 1
        if traces:
            level = max(0.25 * np.median(strength[drawn & (others == 0)]), BRIEF)
            return rows_of(np.concatenate(traces), (brief > level) & (others == 0), reach)
        gone = cv2.dilate(others, np.ones((2 * reach, 2 * reach))) > 0
        lasting[gone] = brief[gone] = 0
    return None


def rows_of(rows: np.ndarray, bright: np.ndarray, reach: int) -> slice:
    """A trace's rows and a margin, with those of what is as `bright`, [h, w] bool, near it.

    For a spike that was written late, or that a gap parts from its baseline, is not among `rows`.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8))
    near = np.flatnonzero((bright & (stats[:, cv2.CC_STAT_AREA] > reach)[labels]).any(1))
    apart = np.maximum(rows.min() - near, near - rows.max())
    rows = np.concatenate([rows, near[apart < TALL / 2 * len(bright)]])
    margin = reach // 2 + np.ptp(rows) // 8
    return slice(max(rows.min() - margin, 0), rows.max() + margin + 1)


def evidence(
    x: np.ndarray, y: np.ndarray, strength: np.ndarray, height: int, width: int
) -> tuple[float, float]:
    """How much the pixels (x, y) are a drawn curve, and by how many rows it departs from an arc.

    `strength` is how many times as persistent as rare tissue each is; tissue is weak, narrow, has
    gaps, or leaps.
    """
    extent = np.ptp(x) + 1
    columns, first, counts = np.unique(x, return_inverse=True, return_counts=True)
    if len(columns) < 3:
        return 0.0, 0.0
    best = np.zeros(len(columns))
    np.maximum.at(best, first, strength)
    middle = np.bincount(first, y) / counts
    across = (columns - columns.mean()) / extent
    uneven = middle - np.polyval(np.polyfit(across, middle, 2), across)
    jumps = np.percentile(np.abs(np.diff(middle)), 80) / max(JUMP * height, 3.0)
    gapless, wide = len(columns) / extent, min(extent / (WIDE * width), 1.0)
    drawn = np.median(best) * gapless * wide / (1 + jumps)
    return float(drawn), float(np.ptp(np.percentile(uneven, (2, 98))))
