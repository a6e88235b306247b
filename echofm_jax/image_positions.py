"""Position embeddings of images of other sizes, as the official DINOv2 code interpolates them.

Bicubic as PyTorch's, without antialiasing; a tenth of a patch is added to the target, which is what
official weights were trained and are used with. numpy only.
"""

import numpy as np

from echofm_jax.positions import cubic_matrix

OFFSET = 0.1  # patches


def image_matrix(grid: int, wanted: int) -> np.ndarray:
    """[wanted, grid] float32: weights of a learned grid's rows in those of another one."""
    return cubic_matrix(grid, wanted, OFFSET).astype(np.float32)


def resized_positions(learned: np.ndarray, grid: int, wanted: int) -> np.ndarray:
    """[grid², D] → [wanted², D]."""
    weights = image_matrix(grid, wanted)
    square = np.asarray(learned).reshape(grid, grid, -1)
    other = np.einsum("yi,xj,ijd->yxd", weights, weights, square, optimize=True)
    return other.reshape(wanted**2, -1).astype(np.float32)
