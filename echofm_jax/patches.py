"""Clips to tubelets and back; pixels as the model sees them and as it must predict them."""

import jax
import jax.numpy as jnp

from echofm_jax.architecture import Architecture

CHANNELS = 3  # the model's own; a grey clip stands for three equal channels


def with_channels(clips: jax.Array) -> jax.Array:
    """[B, T, H, W] or [B, T, H, W, C] → [B, T, H, W, C], C = 1 or 3."""
    return clips[..., None] if clips.ndim == 4 else clips


def to_unit(pixels: jax.Array) -> jax.Array:
    """Uint8 → float32 in [0, 1]; floats are taken to be there already."""
    if pixels.dtype == jnp.uint8:
        return pixels.astype(jnp.float32) / 255.0
    return pixels.astype(jnp.float32)


def patchify(clips: jax.Array, tubelet: int, patch: int) -> jax.Array:
    """[B, T, H, W, C] → [B, t·L, u·p·p, C], any dtype; C stays apart and minor."""
    b, frames, height, width, c = clips.shape
    t, h, w = frames // tubelet, height // patch, width // patch
    x = clips.reshape(b, t, tubelet, h, patch, w, patch, c)  # [B, t, u, h, p, w, p, C]
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)  # [B, t, h, w, u, p, p, C]
    return x.reshape(b, t * h * w, tubelet * patch * patch, c)  # [B, t·L, u·p·p, C]


def unpatchify(patches: jax.Array, steps: int, tubelet: int, patch: int) -> jax.Array:
    """[B, t·L, u·p·p, C] → [B, T, H, W, C], the inverse of `patchify`."""
    b, tokens, _, c = patches.shape
    grid = int((tokens // steps) ** 0.5)
    x = patches.reshape(b, steps, grid, grid, tubelet, patch, patch, c)
    x = x.transpose(0, 1, 4, 2, 5, 3, 6, 7)  # [B, t, u, h, p, w, p, C]
    return x.reshape(b, steps * tubelet, grid * patch, grid * patch, c)  # [B, T, H, W, C]


def take_tokens(x: jax.Array, index: jax.Array) -> jax.Array:
    """Rows `index` [B, n] of `x` [B, tokens, ...] → [B, n, ...]."""
    return jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1)


def target_patches(clips: jax.Array, arch: Architecture) -> jax.Array:
    """[B, T, H, W, C] → [B, t·L, u'·p·p, C]: the frames to predict, dtype unchanged."""
    return patchify(clips[:, arch.target_frames], arch.pred_tubelet, arch.patch)


def normalise_patches(patches: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[..., u·p·p, C] → (normalised, mean, std), statistics over the patch's three channels.

    Unbiased variance, eps 1e-6. A grey patch counts as three equal channels, so that it gives the
    numbers of the same clip in RGB.
    """
    count = patches.shape[-2] * CHANNELS
    repeats = CHANNELS // patches.shape[-1]
    mean = patches.mean((-2, -1), keepdims=True)
    variance = repeats * ((patches - mean) ** 2).sum((-2, -1), keepdims=True) / (count - 1)
    std = jnp.sqrt(variance + 1e-6)
    return (patches - mean) / std, mean, std
