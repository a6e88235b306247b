"""Position embeddings of other frame counts and image sizes than a model was trained on.

Space and time are embedded separately, so each is interpolated alone: the grid bicubically, the
steps linearly, by the formulas of PyTorch's `interpolate` (align_corners=False, antialias=False),
which `pytorch/modeling_echofm.py` calls. Clips are to span the window of training, in more or fewer
frames. numpy only.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from echofm_jax.architecture import Architecture
from echofm_jax.errors import InputError

CUBIC = -0.75  # the free coefficient of cubic convolution (Keys 1981), as PyTorch has it


def resized(
    params: Mapping, arch: Architecture, frames: int | None = None, size: int | None = None
) -> tuple[dict, Architecture]:
    """Parameters and their architecture for clips of `frames` of `size` x `size` pixels.

    None keeps what the model was trained on. Raises InputError when the tubelets do not fit.
    """
    frames = arch.frames if frames is None else frames
    size = arch.size if size is None else size
    # A token goes on reconstructing as many frames as it did.
    pred_frames = arch.pred_tubelet * (frames // arch.tubelet)
    wanted = dataclasses.replace(arch, frames=frames, size=size, pred_frames=pred_frames)
    if min(frames, size) < 1 or wanted.problems():
        raise InputError(
            f"clips of {frames} frames of {size}x{size} pixels: this model takes multiples of "
            f"{arch.tubelet} frames and {arch.patch} pixels"
        )
    space = cubic_matrix(arch.grid, wanted.grid)  # [g', g]
    time = linear_matrix(arch.steps, wanted.steps)  # [t', t]

    def interpolated(part: Mapping) -> dict:
        grid = np.asarray(part["pos_spatial"]).reshape(arch.grid, arch.grid, -1)  # [g, g, D]
        grid = np.einsum("yi,xj,ijd->yxd", space, space, grid, optimize=True)  # [g', g', D]
        steps = time @ np.asarray(part["pos_temporal"])  # [t', D]
        spatial = grid.reshape(wanted.positions, -1)  # [L', D]
        return {
            **part,
            "pos_spatial": spatial.astype(np.float32),
            "pos_temporal": steps.astype(np.float32),
        }

    parts = {name: interpolated(params[name]) for name in ("encoder", "decoder")}
    return {**params, **parts}, wanted


def cubic_matrix(n: int, m: int, offset: float = 0.0) -> np.ndarray:
    """[m, n] weights of n samples in m cubically interpolated ones; the edge is repeated.

    With an `offset` the samples are m of m + offset that cover the extent.
    """
    first, part = _sources(n, m, offset)
    weights = np.zeros((m, n))
    for neighbour in (-1, 0, 1, 2):
        x = np.abs(neighbour - part)
        near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
        far = CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
        sample = np.clip(first + neighbour, 0, n - 1)
        np.add.at(weights, (np.arange(m), sample), np.where(x <= 1, near, far))
    return weights


def linear_matrix(n: int, m: int) -> np.ndarray:
    """[m, n] weights of n samples in m linearly interpolated ones; the edge is repeated."""
    first, part = _sources(n, m)
    weights = np.zeros((m, n))
    for offset, weight in ((0, 1 - part), (1, part)):
        np.add.at(weights, (np.arange(m), np.clip(first + offset, 0, n - 1)), weight)
    return weights


def _sources(n: int, m: int, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Where m samples lie among n: [m] whole and [m] fractional; both cover the same extent."""
    at = (np.arange(m) + 0.5) * n / (m + offset) - 0.5
    first = np.floor(at).astype(int)
    return first, at - first
