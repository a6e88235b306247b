"""AdamW with the reference's clipping rule, decay mask and schedule."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def learning_rate(
    epoch: jax.Array | float, *, peak: float, minimum: float, warmup: float, epochs: float
) -> jax.Array:
    """Linear warm-up, then half a cosine down to `minimum`; all times in (fractional) epochs."""
    rising = peak * epoch / max(warmup, 1e-9)
    progress = jnp.clip((epoch - warmup) / max(epochs - warmup, 1e-9), 0, 1)
    falling = minimum + (peak - minimum) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return jnp.where(epoch < warmup, rising, falling)


def adamw(
    schedule: Callable[[jax.Array], jax.Array],
    *,
    clip_norm: float,
    clipped_apart: bool = False,
    weight_decay: float | Callable[[jax.Array], jax.Array],
    b1: float = 0.9,
    b2: float = 0.95,
    moments_dtype: str = "float32",
    rates: Callable[[dict, jax.Array], dict] | None = None,
) -> optax.GradientTransformation:
    """Clip, Adam, decoupled decay; schedules map the count of finished updates to a rate.

    `clipped_apart` limits the gradient's norm of each top part of the parameters by itself;
    `rates`(parameters, count) multiplies each parameter's own learning rate.
    """
    return optax.chain(
        clip_each_part(clip_norm) if clipped_apart else clip_by_global_norm(clip_norm),
        stored_as(moments_dtype, optax.scale_by_adam(b1=b1, b2=b2, eps=1e-8)),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        *([] if rates is None else [scale_each(rates)]),
        optax.scale_by_learning_rate(schedule),
    )


def cosine(count: jax.Array, *, start: float, end: float, steps: float) -> jax.Array:
    """From `start` to `end` along half a cosine, over so many updates (or epochs)."""
    return end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(count / steps, 0, 1)))


def scale_each(rates: Callable[[dict, jax.Array], dict]) -> optax.GradientTransformation:
    """Multiply each update by what `rates`(parameters, count of updates) has in its place."""

    def update(updates, count, params):
        scaled = jax.tree.map(jnp.multiply, updates, rates(params, count))
        return scaled, count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Scale by min(1, limit / (norm + 1e-6)), PyTorch's rule; optax's own has no epsilon."""

    def update(updates, state, params=None):
        scale = jnp.minimum(1.0, limit / (optax.tree.norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * scale, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_each_part(limit: float) -> optax.GradientTransformation:
    """`clip_by_global_norm` of each top part of the parameters: backbone, heads."""
    clip = clip_by_global_norm(limit)

    def update(updates, state, params=None):
        return {name: clip.update(part, state)[0] for name, part in updates.items()}, state

    return optax.GradientTransformation(clip.init, update)


def stored_as(dtype: str, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, whose floating-point state is kept in `dtype` and computed with in float32.

    A bfloat16 number changes by steps of 1/256: a moment that goes 5 % of the way each time
    (b2 = 0.95) follows in them; one of 0.999 would stand still.
    """

    def cast(state, dtype: str):
        floating = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
        return jax.tree.map(lambda x: x.astype(dtype) if floating(x) else x, state)

    def update(updates, state, params=None):
        updates, state = inner.update(updates, cast(state, "float32"), params)
        return updates, cast(state, dtype)

    return optax.GradientTransformation(lambda params: cast(inner.init(params), dtype), update)


def decay_mask(params: dict) -> dict:
    """True where weight decay applies: everything but biases and scales, LayerScale's too."""
    spared = ("bias", "scale", "scale1", "scale2")
    return jax.tree.map_with_path(lambda path, _: path[-1].key not in spared, params)
