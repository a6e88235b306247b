"""What is thin and bright in a clip, and for how long it stays so."""

from collections.abc import Sequence

import cv2
import numpy as np


def thin_parts(images: Sequence[np.ndarray], side: int) -> list[np.ndarray]:
    """By how much [h, w] uint8 images exceed all around where that is thinner than `side`."""
    kernel = np.ones((side, side), np.uint8)
    return [cv2.morphologyEx(image, cv2.MORPH_TOPHAT, kernel) for image in images]


def thin_side(images: Sequence[np.ndarray]) -> int:
    """Side in pixels of the square that is no longer thin in pictures of that height."""
    return 2 * round(len(images[0]) / 120) + 3


def strongest(image: np.ndarray) -> np.ndarray:
    """[h, w(, 3)] → [h, w]: the strongest channel of each pixel; a green trace is bright."""
    if image.ndim == 2:
        return image
    # Split where it lies between other pixels takes up to five times as long.
    red, green, blue = cv2.split(np.ascontiguousarray(image))
    return cv2.max(cv2.max(red, green, dst=red), blue, dst=red)


def persistence(
    bright: np.ndarray,
    thin: np.ndarray,
    within: np.ndarray,
    counts: Sequence[int],
    spread: float,
) -> list[np.ndarray]:
    """[h, w] of each count: least contrast of so many frames on end over its brightness' range.

    The best of all such frames among `bright` and its `thin_parts`, [n, h, w] uint8 both, at the
    pixels `within` [h, w] bool; 0 elsewhere. `spread` is how many grey levels noise makes a still
    pixel vary.
    """
    rows = np.flatnonzero(within.any(1))
    rows = slice(rows[0], rows[-1] + 1)
    some = np.zeros_like(within)  # few pixels: all else is dear
    some[rows] = running(np.minimum, thin[:, rows], min(counts)).max(0) >= spread
    places = np.flatnonzero(some & within)
    thin, bright = (stack.reshape(len(stack), -1).take(places, 1) for stack in (thin, bright))
    results = []
    for count in counts:
        least = running(np.minimum, thin, count)
        ranges = running(np.maximum, bright, count) - running(np.minimum, bright, count)
        lasting = np.where(least >= spread, least / (ranges + np.float32(spread)), 0).max(0)
        results.append(np.zeros(within.shape, np.float32))
        results[-1].flat[places] = lasting
    return results


def running(extreme: np.ufunc, stack: np.ndarray, count: int) -> np.ndarray:
    """Minimum or maximum of each `count` neighbours along the first axis."""
    width = 1
    while 2 * width <= count:
        stack, width = extreme(stack[:-width], stack[width:]), 2 * width
    rest = count - width
    return extreme(stack[:-rest], stack[rest:]) if rest else stack
