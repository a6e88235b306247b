"""ECG traces drawn into the sector: they tell the phase, which the model is to see in the heart."""

import math

import cv2
import numpy as np

from data_pipelines.thin import persistence

NEAR = 0.3  # share of the sector's rows, from above, where still reverberation looks like graphics
RARE = 97.5  # percentile of persistence among tissue
LEAST = 0.4  # persistence of anything drawn
TALL = 0.25  # share of the sector's rows: more than a trace has
WIDE, JUMP = 0.4, 0.011  # of the sector's width and height: tissue is narrower, or leaps farther
BRIEF = 3.0  # how far above rare tissue what lasts for a quarter must be
# How far above rare tissue to look, and what to link there: rows and columns, in widths of a line.
LEVELS = ((BRIEF, 2, 2), (4.0, 2, 2), (2.0, 1, 1), (1.0, 0, 1))
ENOUGH = 24  # frames; a trace is written into half of them or a quarter
# Of 30 phantoms of all views no trace is missed, and none is seen where there is none; of 15 copies
# of a real one that codecs or scaling changed 3 are missed; of 101 pieces of 8 to 20 frames of real
# clips without one, 9 seem to hold one.
EVIDENCE = 1.0
EVERY = 6  # frames of which one tells how bright the picture is
SPREAD, WHITE, DARKEST = 10.0, 250.0, 4.0  # grey levels of noise where the brightest are white
WORD = 0.4  # of the height of a trace: most of its columns are lower, those of letters are not
SPIKES = 0.012  # of the sector's height: lines and arcs are smoother


def find_trace(
    bright: np.ndarray, thin: np.ndarray, reach: int, inside: np.ndarray
) -> slice | None:
    """The rows of an ECG trace among what is thin, or None; `inside` [h, w] bool is the sector.

    `bright` are images, `thin` their `thin_parts` of the side `reach`, [n, h, w] both. Found in
    what lasts for half the frames; what lasts for a quarter may belong to it.

    A trace is wider than high, runs on without a gap, and is uneven: lines, arcs and the outline
    of a colour box are smooth, and tell no phase. One that scrolls, or lies in the upper third, is
    not looked for.
    """
    height, width = inside.shape
    deep = cv2.erode(inside.view(np.uint8), np.ones((reach, reach)), borderValue=0) > 0
    deep[: int(NEAR * height)] = False
    if not deep.any():
        return None
    count = len(thin)
    half, quarter = (min(frames, count) for frames in (ENOUGH // 2, ENOUGH // 4))
    white = max(percentile(bright[::EVERY], inside, 99.5), WHITE / DARKEST)
    spread = SPREAD * min(white / WHITE, 1.0)  # a dim picture's trace is dim, too
    persistent, brief = persistence(bright, thin, deep, (half, quarter), spread)
    enough = EVIDENCE * math.sqrt(max(ENOUGH / count, 1))  # of few frames, tissue too leaves more
    rare = LEAST
    if np.count_nonzero(persistent > LEAST) >= (1 - RARE / 100) * np.count_nonzero(deep) - 1:
        rare = max(float(np.percentile(persistent[deep], RARE)), LEAST)
    lasting = persistent / rare
    brief = brief / (2 * rare)  # tissue lasts a quarter twice as often
    for strength, (least, up, along) in zip((brief, *3 * [lasting]), LEVELS, strict=True):
        drawn = strength > least
        reached = np.ones((up * reach + 3, 2 * along * reach + 1), np.uint8)
        linked = cv2.dilate(drawn.astype(np.uint8), reached)
        outlines, _ = cv2.findContours(linked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if all(cv2.boundingRect(outline)[2] < WIDE * width / 4 for outline in outlines):
            continue
        count, labels, stats, _ = cv2.connectedComponentsWithStats(linked, ltype=cv2.CV_16U)
        traces, others = [], np.zeros((height, width), np.uint8)
        for part in range(1, count):
            if stats[part, cv2.CC_STAT_WIDTH] < WIDE * width / 4:
                continue
            left, top, wide, high = stats[part, : cv2.CC_STAT_AREA]
            box = slice(top, top + high), slice(left, left + wide)
            y, x = np.nonzero((labels[box] == part) & drawn[box])
            y, x = y + top, x + left
            if evidence(x, y, strength[y, x], height, width) < enough:
                continue
            if np.ptp(y) <= TALL * height and spikes(x, y) > max(3.0, SPIKES * height):
                traces.append(y)
            else:
                others[y, x] = 1
        if traces:
            level = max(0.25 * np.median(strength[drawn & (others == 0)]), BRIEF)
            return rows_of(np.concatenate(traces), (brief > level) & (others == 0), reach)
        gone = cv2.dilate(others, np.ones((2 * reach, 2 * reach))) > 0
        lasting[gone] = brief[gone] = 0
    return None


def percentile(images: np.ndarray, inside: np.ndarray, share: float) -> float:
    """The grey level that `share` per cent of the pixels inside do not exceed."""
    levels = sum(cv2.calcHist([im], [0], inside.view(np.uint8), [256], [0, 256]) for im in images)
    return float(np.searchsorted(np.cumsum(levels), share / 100 * levels.sum()))


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


def evidence(x: np.ndarray, y: np.ndarray, strength: np.ndarray, height: int, width: int) -> float:
    """How much the pixels (x, y) are a drawn curve.

    `strength` is how many times as persistent as rare tissue each is; tissue is weak, narrow, has
    gaps, or leaps.
    """
    x = x - x.min()
    counts = np.bincount(x)
    extent, columns = len(counts), np.flatnonzero(counts)
    if len(columns) < 3:
        return 0.0
    top, bottom, best = np.full(extent, height), np.zeros(extent), np.zeros(extent)
    np.minimum.at(top, x, y)
    np.maximum.at(bottom, x, y)
    if np.median((bottom - top)[columns]) > WORD * np.ptp(y):
        return 0.0
    np.maximum.at(best, x, strength)
    middle = np.bincount(x, y)[columns] / counts[columns]
    leaps = np.sort(np.abs(np.diff(middle)))  # np.percentile takes ten times as long
    most = np.interp(0.8 * (len(leaps) - 1), np.arange(len(leaps)), leaps)
    jumps = most / max(JUMP * height, 3.0)
    gapless, wide = len(columns) / extent, min(extent / (WIDE * width), 1.0)
    return float(np.median(best[columns]) * gapless * wide / (1 + jumps))


def spikes(x: np.ndarray, y: np.ndarray) -> float:
    """By how many rows the curve of the pixels (x, y) departs from an arc."""
    columns, first, counts = np.unique(x, return_inverse=True, return_counts=True)
    middle = np.bincount(first, y) / counts
    across = (columns - columns.mean()) / (np.ptp(x) + 1)
    uneven = middle - np.polyval(np.polyfit(across, middle, 2), across)
    return float(np.ptp(np.percentile(uneven, (2, 98))))
