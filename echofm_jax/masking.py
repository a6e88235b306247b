"""Which tubelets the encoder sees: noise in, indices out.

A token's index is time-major: step * L + position. The noise comes from the loader (keyed by the
record's index), or from a test; the smallest noise is visible, so the same noise gives the same
mask whatever draws it.
"""

import jax
import jax.numpy as jnp

KINDS = ("consistent", "random", "uniform_frame", "sector")


def noise_shape(kind: str, steps: int, positions: int) -> tuple[int, ...]:
    """Shape of one clip's mask noise.

    `consistent` and `sector` draw spatial positions once for all time steps (EchoFM); `sector`
    differs only in its noise, which the loader raises by 1 outside the ultrasound sector.
    `uniform_frame` draws them anew in each step; `random` draws over all tokens (MAE-ST).
    """
    return {
        "consistent": (positions,),
        "sector": (positions,),
        "uniform_frame": (steps, positions),
        "random": (steps * positions,),
    }[kind]


def split_tokens(
    noise: jax.Array, kind: str, steps: int, mask_ratio: float
) -> tuple[jax.Array, jax.Array]:
    """Noise [B, *noise_shape] → (visible [B, n], masked [B, t·L - n]) token indices, ascending."""
    batch, per_row = noise.shape[0], noise.shape[-1]
    keep = num_kept(per_row, mask_ratio)
    order = jnp.argsort(noise, axis=-1)
    visible, masked = jnp.sort(order[..., :keep]), jnp.sort(order[..., keep:])
    if kind == "random":
        return visible, masked
    positions = per_row
    if kind in ("consistent", "sector"):
        visible, masked = visible[:, None], masked[:, None]  # [B, 1, k]: the same in every step
    offset = positions * jnp.arange(steps)[:, None]  # [t, 1]
    return (
        (visible + offset).reshape(batch, -1),  # [B, t·k]
        (masked + offset).reshape(batch, -1),  # [B, t·(L - k)]
    )


def num_kept(tokens: int, mask_ratio: float) -> int:
    """How many of a row of tokens stay visible, rounded down as the reference does."""
    return int(tokens * (1 - mask_ratio))


def token_mask(visible: jax.Array, tokens: int) -> jax.Array:
    """Visible indices [B, n] → [B, t·L] float32, 1 = masked."""
    batch = visible.shape[0]
    return jnp.ones((batch, tokens)).at[jnp.arange(batch)[:, None], visible].set(0.0)
