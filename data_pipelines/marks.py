"""Letters, rulers and other marks drawn into the sector: crisp, and still while tissue moves on."""

import collections
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines.thin import thin_parts

CONTRAST = 10.0  # grey levels by which a mark is brighter than what surrounds it
NOISE = 5.0  # grey levels that compression makes a still pixel vary
SPAN = 3  # frames in one sum
# Over so many spans on end: how steady a quarter of a common picture's pixels are at least, how
# steady a pixel of a word is, and one that needs no others around it. What is seen for a short time
# must be the steadier, for tissue too rests in diastole.
LEVELS = ((8, 1.6, 5.0, 9.0), (4, 2.1, 8.0, 13.0), (2, 3.4, 11.0, 18.0))
BOLD_LEVELS = ((8, 2.5, 12.0, 18.0),)
STEADIER = 2.0  # in bright or slow pictures all is steadier: at most so much more is asked for
DENSE = 0.12  # share of such pixels among letters
BOLD = 3  # letters so many times as bold are looked for too


def find_marks(
    images: Sequence[np.ndarray], thin: Sequence[np.ndarray], side: int, inside: np.ndarray
) -> np.ndarray:
    """[h, w] bool: what stands in [h, w] uint8 images for a while; `inside` is the sector there.

    `thin` are the images' `thin_parts` of `side`. Words become blocks, for holes of their letters'
    shape could be read.
    """
    fine = _steady(images, thin, inside, side, LEVELS)
    small = [_shrunk(image) for image in images]
    within = _shrunk(255 * inside.view(np.uint8)) > 127
    bold = _steady(small, thin_parts(small, side), within, side, BOLD_LEVELS)
    bold = cv2.resize(bold, fine.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.dilate(fine | bold, np.ones((5, 5), np.uint8)).astype(bool)


def _shrunk(image: np.ndarray) -> np.ndarray:
    """[h, w] uint8 → a pixel for each square of BOLD: their mean; a rest is in the last ones."""
    middle = min(BOLD // 2, *(side - 1 for side in image.shape))
    return np.ascontiguousarray(cv2.blur(image, (BOLD, BOLD))[middle::BOLD, middle::BOLD])


def _steady(
    images: Sequence[np.ndarray],
    thin: Sequence[np.ndarray],
    inside: np.ndarray,
    side: int,
    levels: tuple,
) -> np.ndarray:
    """[h, w] uint8: words and marks thinner than `side` in [h, w] images."""
    spans = _spans(len(images))
    together = math.gcd(*(min(count, len(spans)) for count, *_ in levels))
    places = _contrasting(thin, spans, together)
    best = {count: np.zeros(len(places), np.float32) for count, *_ in levels}
    lengths, recent = [len(span) for span in spans], collections.deque(maxlen=levels[0][0])
    pairs = collections.deque(maxlen=levels[0][0])  # sums of two spans: half the additions
    for number, span in enumerate(spans, 1):
        recent.append(_sums(images, thin, span, places))
        pairs.append(recent[-1] + recent[-2] if number > 1 else None)
        for level, steadiest in best.items():
            count = min(level, len(spans))
            if number >= count and (number % (level // 2) == 0 or number == len(spans)):
                parts = [pairs[-i] for i in range(1, count, 2)] + [recent[-count]] * (count % 2)
                frames = sum(lengths[number - count : number])
                found = steadiness(frames, *functools.reduce(np.add, parts))
                np.maximum(steadiest, found, out=steadiest)
    words, marks = (np.zeros(inside.shape, np.uint8) for _ in range(2))
    within, area = inside.flat[places], np.count_nonzero(inside)
    for count, tissue, word, mark in levels:
        more, found = 1.0, best[count][within]
        if np.count_nonzero(found > tissue) >= area / 4:
            others = np.zeros(area - len(found), np.float32)
            more = min(np.percentile(np.concatenate([found, others]), 75) / tissue, STEADIER)
        words.flat[places[best[count] > word * more]] = 1
        marks.flat[places[best[count] > mark * more]] = 1
    dense = cv2.blur(words.astype(np.float32), (3 * side, 2 * side)) > DENSE
    closed = cv2.morphologyEx(marks, cv2.MORPH_CLOSE, np.ones((side, 2 * side), np.uint8))
    return closed | dense


def _spans(count: int) -> list[range]:
    """Frames 0 to `count` in spans of `SPAN` or hardly more, the longer ones first."""
    shortest, longer = divmod(count, parts := max(1, count // SPAN))
    ends = [shortest * i + min(i, longer) for i in range(parts + 1)]
    return list(map(range, ends, ends[1:]))


def _contrasting(thin: Sequence[np.ndarray], spans: Sequence[range], together: int) -> np.ndarray:
    """Where any spans `together` on end have enough contrast, [n]. All else is dear.

    Without, no row of spans that can be parted into such has enough.
    """
    best: dict[int, np.ndarray] = {}  # the highest sums of so many frames, 255 at most
    recent: collections.deque = collections.deque(maxlen=together)
    for first, span in enumerate(spans, 1 - together):
        recent.append(functools.reduce(cv2.add, [thin[i] for i in span]))
        if first >= 0:
            total, count = functools.reduce(cv2.add, recent), span.stop - spans[first].start
            best[count] = cv2.max(best.get(count, total), total)
    enough = [total >= min(count * CONTRAST, 255) for count, total in best.items()]
    return np.flatnonzero(np.logical_or.reduce(enough))


def _sums(
    images: Sequence[np.ndarray], thin: Sequence[np.ndarray], span: range, places: np.ndarray
) -> np.ndarray:
    """Of thin contrast, of brightness and of its square over a span, [3, n] float32."""
    sums = np.zeros((3, *images[0].shape), np.float32)
    for i in span:
        cv2.accumulate(thin[i], sums[0])
        cv2.accumulate(images[i], sums[1])
        cv2.accumulateSquare(images[i], sums[2])
    return sums.reshape(3, -1).take(places, 1)


def steadiness(count: int, thin: np.ndarray, bright: np.ndarray, square: np.ndarray) -> np.ndarray:
    """[n]: mean contrast over the brightness' deviation, from the sums of `count` frames."""
    spread = square * np.float32(count)  # count² times the variance, then count times the deviation
    spread -= bright * bright
    spread = np.sqrt(_above(spread, 0))
    spread += np.float32(count * NOISE)
    return np.divide(_above(thin, count * CONTRAST - 0.5), spread, out=spread)  # `thin` is whole


def _above(values: np.ndarray, least: float) -> np.ndarray:
    """[n] float32, 0 where not above `least`; twice as fast as by NumPy."""
    return cv2.threshold(values, least, 0, cv2.THRESH_TOZERO)[1].ravel()
