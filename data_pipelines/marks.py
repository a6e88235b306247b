"""Letters, rulers and other marks drawn into the sector: crisp, and still while tissue moves on."""

import collections
from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines.thin import thin_side

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


def find_marks(images: Sequence[np.ndarray], inside: np.ndarray) -> np.ndarray:
    """[h, w] bool: what stands in [h, w] uint8 images for a while; `inside` is the sector there.

    Words become blocks, for holes of their letters' shape could be read.
    """
    side = thin_side(images)
    fine = _steady(images, inside, side, LEVELS)
    size = max(1, fine.shape[1] // BOLD), max(1, fine.shape[0] // BOLD)
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    within = cv2.resize(inside.astype(np.uint8), size) > 0
    bold = cv2.resize(_steady(small, within, side, BOLD_LEVELS), fine.shape[::-1])
    return cv2.dilate(fine | bold, np.ones((5, 5), np.uint8)).astype(bool)


def _steady(
    images: Sequence[np.ndarray], inside: np.ndarray, side: int, levels: tuple
) -> np.ndarray:
    """[h, w] uint8: words and marks thinner than `side` in [h, w] images."""
    best = {count: np.zeros(images[0].shape, np.float32) for count, *_ in levels}
    spans = np.array_split(np.arange(len(images)), max(1, len(images) // SPAN))
    recent = collections.deque(maxlen=levels[0][0])
    for number, span in enumerate(spans, 1):
        recent.append((len(span), *_sums([images[i] for i in span], side)))
        for level, steadiest in best.items():
            count = min(level, len(spans))
            if len(recent) >= count and (number % (level // 2) == 0 or number == len(spans)):
                sums = map(sum, zip(*list(recent)[-count:], strict=True))
                np.maximum(steadiest, steadiness(*sums), out=steadiest)
    words, marks = (np.zeros(images[0].shape, np.uint8) for _ in range(2))
    for count, tissue, word, mark in levels:
        quarter = np.percentile(best[count][inside], 75)
        more = np.clip(quarter / tissue, 1, STEADIER)
        words |= best[count] > word * more
        marks |= best[count] > mark * more
    dense = cv2.blur(words.astype(np.float32), (3 * side, 2 * side)) > DENSE
    closed = cv2.morphologyEx(marks, cv2.MORPH_CLOSE, np.ones((side, 2 * side), np.uint8))
    return closed | dense


def _sums(images: list[np.ndarray], side: int) -> tuple[np.ndarray, ...]:
    """Of thin contrast, of brightness and of its square, [h, w] float32 each."""
    kernel = np.ones((side, side), np.uint8)
    thin, bright, square = (np.zeros(images[0].shape, np.float32) for _ in range(3))
    for image in images:
        cv2.accumulate(cv2.morphologyEx(image, cv2.MORPH_TOPHAT, kernel), thin)
        cv2.accumulate(image, bright)
        cv2.accumulateSquare(image, square)
    return thin, bright, square


def steadiness(count: int, thin: np.ndarray, bright: np.ndarray, square: np.ndarray) -> np.ndarray:
    """[h, w]: mean contrast over the brightness' deviation, from the sums of `count` frames."""
    deviation = cv2.sqrt(cv2.max(square / count - (bright / count) ** 2, 0.0))
    contrast = thin / count
    return np.where(contrast >= CONTRAST, contrast / (deviation + NOISE), 0)
