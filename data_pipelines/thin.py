"""What is thin and bright in a clip, and for how long it stays so."""

from collections.abc import Sequence

import cv2
import numpy as np


def thin_structures(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """Brightness of [h, w] uint8 images, and by how much it exceeds all around where that is thin.

    Both [n, h, w] uint8; and `thin_side`.
    """
    side = thin_side(images)
    kernel = np.ones((side, side), np.uint8)
    thin = [cv2.morphologyEx(image, cv2.MORPH_TOPHAT, kernel) for image in images]
    return np.stack(images), np.stack(thin), side


def thin_side(images: Sequence[np.ndarray]) -> int:
    """Side in pixels of the square that is no longer thin in pictures of that height."""
    return 2 * round(len(images[0]) / 120) + 3


def strongest(image: np.ndarray) -> np.ndarray:
    """[h, w(, 3)] → [h, w]: the strongest channel of each pixel; a green trace is bright."""
    if image.ndim == 2:
        return image
    red, green, blue = cv2.split(np.ascontiguousarray(image))
    return cv2.max(cv2.max(red, green), blue)


def persistence(bright: np.ndarray, thin: np.ndarray, count: int, spread: float) -> np.ndarray:
    """[h, w]: least contrast of `count` frames on end over its brightness' range; best of all.

    `spread` is how many grey levels noise makes a still pixel vary.
    """
    low = running(np.minimum, thin, count)
    some = low.max(0) >= spread  # few pixels: all else is dear
    least, bright = low[:, some].astype(np.float32), bright[:, some]
    ranges = running(np.maximum, bright, count) - running(np.minimum, bright, count)
    result = np.zeros(some.shape, np.float32)
    result[some] = np.where(least >= spread, least / (ranges + spread), 0).max(0)
    return result


def running(extreme: np.ufunc, stack: np.ndarray, count: int) -> np.ndarray:
    """Minimum or maximum of each `count` neighbours along the first axis."""
    width = 1
    while 2 * width <= count:
        stack, width = extreme(stack[:-width], stack[width:]), 2 * width
    rest = count - width
    return extreme(stack[:-rest], stack[rest:]) if rest else stack
