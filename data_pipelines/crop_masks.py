"""Masks for iBOT: blocks of patches of one of an image's two global crops.

Rectangles of random area and aspect are put together, as in BEiT (Bao et al., 2021), until exactly
as many patches are masked as were asked for: a mask in blocks cannot be guessed from neighbours.
"""

import math

import numpy as np

LEAST = 4  # patches of a rectangle, while so many are still to be masked
ASPECT = math.log(1 / 0.3)  # height to width between 0.3 and 1/0.3


def most_masked(positions: int, mask_ratio: tuple[float, float]) -> int:
    """The most patches of `positions` that `image_masks` masks of an image, of both crops."""
    return int(mask_ratio[1] * positions)


def image_masks(grid: int, mask_ratio: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Masks of an image's two global crops, [2, grid²] bool, True = masked.

    One of them, at random, is masked at a ratio drawn from `mask_ratio`, but for 0 at one patch at
    least; the other is not.
    """
    positions = grid * grid
    masked, ratio = int(rng.integers(2)), rng.uniform(*mask_ratio)
    most = most_masked(positions, mask_ratio)
    masks = np.zeros((2, positions), bool)
    masks[masked] = block_mask(grid, min(max(int(ratio * positions), 1), most), rng).ravel()
    return masks


def block_mask(grid: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """[grid, grid] bool with exactly `count` True, in rectangles. `count` is at most grid²."""
    mask = np.zeros((grid, grid), bool)
    left = count
    while left:
        size, shape, down, along = rng.random(4).tolist()
        least = min(LEAST, left)
        area, aspect = least + (left - least) * size, math.exp(ASPECT * (2 * shape - 1))
        height = min(max(round(math.sqrt(area * aspect)), 1), grid)
        width = min(max(round(math.sqrt(area / aspect)), 1), grid)
        top, start = int(down * (grid - height + 1)), int(along * (grid - width + 1))
        block = mask[top : top + height, start : start + width]
        more = height * width - np.count_nonzero(block)
        if more <= left:
            block[:] = True
            left -= more
    return mask
