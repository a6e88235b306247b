"""Embeddings of whole clips: what a trained encoder and projector are used for."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from echofm_jax import config as configs
from echofm_jax.architecture import Architecture
from echofm_jax.checkpoint import load_params
from echofm_jax.errors import InputError
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.model import bind
from echofm_jax.positions import resized
from echofm_jax.torch_checkpoint import convert, read_checkpoint

if TYPE_CHECKING:
    from echofm_jax.image_encode import ImageEncoder


class Features(NamedTuple):
    """Token features [B, t·L, D], frame embeddings [B, t, D], video embedding [B, D]; float32."""

    tokens: jax.Array
    frames: jax.Array
    video: jax.Array


class EncoderOnly:
    """Parameters with the architecture they belong to."""

    def __init__(self, params: dict, arch: Architecture):
        self.params, self.arch = params, arch
        self._encode = jax.jit(functools.partial(encode, arch=arch))

    def encode(self, clips: np.ndarray | jax.Array) -> Features:
        """Clips [B, T, H, W] or [B, T, H, W, 3], uint8 or floats in [0, 1] → features.

        Raises:
          InputError: the clips are not of the frames and size that the model was loaded for.
        """
        wanted = (self.arch.frames, self.arch.size, self.arch.size)
        if clips.ndim not in (4, 5) or clips.shape[1:4] != wanted:
            raise InputError(
                f"clips of shape {list(clips.shape)}: this model reads [B, T, H, W] or "
                f"[B, T, H, W, 3] with T, H, W = {', '.join(map(str, wanted))}"
            )
        return self._encode(self.params, clips)


def encode(params: dict, clips: jax.Array, *, arch: Architecture) -> Features:
    """Nothing masked: every token goes through the encoder and the projector."""
    model = bind(arch, params)
    every = jnp.broadcast_to(jnp.arange(arch.tokens), (clips.shape[0], arch.tokens))
    tokens = model.encoder(clips, every)  # [B, t·L, D]
    frames = model.projector(tokens, every)  # [B, t, D]
    tokens = tokens.astype(jnp.float32)
    return Features(tokens, frames, tokens.mean(1))


def load(
    path: str | Path, frames: int | None = None, size: int | None = None
) -> "EncoderOnly | ImageEncoder":
    """See `echofm_jax.load`."""
    from echofm_jax.image_encode import ImageEncoder
    from echofm_jax.import_dinov2 import is_dinov2, read_backbone

    path = Path(path)
    if (path / "checkpoints").is_dir():
        params, _ = load_params(path)
        arch = configs.anywhere(configs.load(path))
    elif path.exists():
        checkpoint = read_checkpoint(path)
        if is_dinov2(checkpoint):
            backbone, arch, _ = read_backbone(checkpoint, path)
            params = {"backbone": backbone}
        else:
            params, arch, _ = convert(checkpoint, path)
    else:
        raise InputError(f"{path} does not exist: give a workdir, an exported folder or a .pth")
    if isinstance(arch, ImageArchitecture):
        return ImageEncoder(params, arch, size)
    if frames is not None or size is not None:
        params, arch = resized(params, arch, frames, size)
    return EncoderOnly(params, arch)
