"""Embeddings of clips by an image backbone: every frame by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from echofm_jax.encode import Features
from echofm_jax.errors import InputError
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.image_model import bind, normalised


class ImageEncoder:
    """Parameters with the architecture they belong to, for clips of any length."""

    def __init__(self, params: dict, arch: ImageArchitecture, size: int | None = None):
        """`size`: pixels of a side, where they are not those of training.

        Raises InputError where patches do not fill it.
        """
        self.params, self.arch, self.size = params, arch, size or arch.size
        if self.size < 1 or self.size % arch.patch:
            raise InputError(
                f"images of {self.size}x{self.size} pixels: this model takes multiples of "
                f"{arch.patch}"
            )
        self._encode = jax.jit(functools.partial(encode, arch=arch))

    def encode(self, clips: np.ndarray | jax.Array) -> Features:
        """Clips [B, T, H, W] or [B, T, H, W, 3], uint8 or floats in [0, 1] → features.

        Raises:
          InputError: the clips are not of the size that the model was loaded for.
        """
        if clips.ndim not in (4, 5) or clips.shape[2:4] != (self.size, self.size):
            raise InputError(
                f"clips of shape {list(clips.shape)}: this model reads [B, T, H, W] or "
                f"[B, T, H, W, 3] with H, W = {self.size}, {self.size}"
            )
        return self._encode(self.params, clips)


def encode(params: dict, clips: jax.Array, *, arch: ImageArchitecture) -> Features:
    """Clips [B, T, S, S(, 3)] → tokens [B, T·N, D], CLS of each frame [B, T, D], video [B, D].

    The video's is the mean of all tokens, as EchoFM's. `params`: the teacher or the student; its
    heads are not read.
    """
    b, frames = clips.shape[:2]
    images = normalised(clips).reshape(-1, *clips.shape[2:4], 3)  # [B·T, S, S, 3]
    cls, patches = bind(arch, params["backbone"])(images)
    cls = cls.reshape(b, frames, -1)  # [B, T, D]
    tokens = patches.astype(jnp.float32).reshape(b, -1, arch.width)  # [B, T·N, D]
    return Features(tokens, cls, tokens.mean(1))
