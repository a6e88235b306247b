"""Prompts as somebody who knows the truth would give them, one after another.

The next click is at the centre of the largest error: of what is missing and what is too much, the
pixel farthest from the region's border, as RITM (arXiv 2102.06583) and SAM (arXiv 2304.02643)
evaluate. In training it is drawn near there, for nobody clicks exactly.
"""

import cv2
import numpy as np

from echofm_jax.pytorch.prompt_encoder import NEGATIVE, NONE, POSITIVE

JITTER = 0.1  # standard deviation of a box's sides in training, of its width or height (SAM)
CORE = 0.5  # training clicks are at least so deep, of the deepest


def next_click(
    truth: np.ndarray, predicted: np.ndarray, rng: np.random.Generator | None = None
) -> tuple[int, int, int]:
    """(x, y, kind) of the click that corrects most; kind is NONE where nothing is wrong.

    Args:
      truth: [S, S] bool.
      predicted: [S, S] bool; empty before the first click.
      rng: draws one of the pixels that lie deep in the error (training); without it the deepest.
    """
    missing, surplus = depth(truth & ~predicted), depth(predicted & ~truth)
    kind, deep = POSITIVE, missing
    if surplus.max() > missing.max():
        kind, deep = NEGATIVE, surplus
    if not deep.max():
        return 0, 0, NONE
    if rng is None:
        place = int(deep.argmax())
    else:
        place = int(rng.choice(np.flatnonzero(deep >= CORE * deep.max())))
    y, x = divmod(place, truth.shape[1])
    return x, y, kind


def depth(region: np.ndarray) -> np.ndarray:
    """[S, S] bool → distance of each pixel to the nearest outside; beyond the frame is outside."""
    padded = np.pad(region.astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]


def around(truth: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """The box of a structure that is there: [4] left, top, right, bottom; with `rng`, roughly."""
    rows, columns = (np.flatnonzero(truth.any(axis)) for axis in (1, 0))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    if rng is not None:
        sides = np.tile(box[2:] - box[:2], 2)
        moved = np.clip(box + rng.normal(0, JITTER, 4) * sides, 0, len(truth) - 1)
        box = np.concatenate([np.minimum(moved[:2], moved[2:]), np.maximum(moved[:2], moved[2:])])
    return box.astype(np.float32)


def rough(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask [S, S] bool that somebody would correct: moved, and grown or shrunk."""
    reach = max(2, int(0.25 * np.sqrt(truth.sum())))
    shift = rng.integers(-reach, reach + 1, 2)
    warp = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(truth.astype(np.uint8), warp, truth.shape[::-1])
    width = 2 * int(rng.integers(1, reach + 1)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    change = cv2.dilate if rng.random() < 0.5 else cv2.erode
    return change(moved, kernel) > 0
