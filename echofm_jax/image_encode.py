"""Embeddings of clips by an image backbone: every frame by itself."""

import jax
import jax.numpy as jnp

from echofm_jax.encode import Features
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.image_model import bind, normalised


def encode(params: dict, clips: jax.Array, *, arch: ImageArchitecture) -> Features:
    """Clips [B, T, S, S(, 3)] → tokens [B, T·N, D], CLS of each frame [B, T, D], their mean [B, D].

    `params`: the teacher or the student; its heads are not read.
    """
    b, frames = clips.shape[:2]
    images = normalised(clips).reshape(-1, *clips.shape[2:4], 3)  # [B·T, S, S, 3]
    cls, patches = bind(arch, params["backbone"])(images)
    cls = cls.reshape(b, frames, -1)  # [B, T, D]
    tokens = patches.astype(jnp.float32).reshape(b, -1, arch.width)  # [B, T·N, D]
    return Features(tokens, cls, cls.mean(1))
