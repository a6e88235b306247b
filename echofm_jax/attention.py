"""Softmax attention behind one function; which algorithm runs follows from the platform."""

import functools

import jax
import jax.numpy as jnp

from echofm_jax.cpu_attention import blockwise
from echofm_jax.errors import InputError
from echofm_jax.fused_attention import LANES, fused
from echofm_jax.sharding import over_heads
from echofm_jax.splash_attention import splash

KINDS = ("auto", "plain", "splash")


def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, heads: int, kind: str = "auto"
) -> jax.Array:
    """[B, N, D], [B, M, D], [B, M, D] → [B, N, D]; softmax in float32.

    Args:
      query, key, value: the dense layers' outputs, heads side by side.
      heads: H; a head has D / H channels.
      kind: `auto` takes the fastest for the platform; `plain` and, on TPUs, `splash` (the kernel
        that JAX ships) are there to compare with.

    Raises:
      InputError: `splash` elsewhere than on TPUs.
    """
    mesh = jax.sharding.get_abstract_mesh()  # of the devices that this is compiled for
    platform = jax.default_backend() if mesh.empty else mesh.abstract_device.platform
    if kind == "splash" and platform != "tpu":
        raise InputError(f"model.attention=splash runs on TPUs, not on {platform}: choose auto")
    if platform == "tpu" and kind != "plain" and query.shape[-1] <= heads * LANES:
        run = splash if kind == "splash" else fused
    else:
        algorithm = blockwise if platform == "cpu" and kind == "auto" else plain
        run = functools.partial(heads_major, algorithm)
    return over_heads(run, heads)(query, key, value)


def heads_major(
    algorithm, query: jax.Array, key: jax.Array, value: jax.Array, heads: int
) -> jax.Array:
    """Apply `algorithm` to scaled q [B, H, N, d], k and v [B, H, M, d]."""
    b, n, width = query.shape

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(b, -1, heads, width // heads).transpose(0, 2, 1, 3)  # [B, H, N, d]

    mixed = algorithm(split(query) * (width // heads) ** -0.5, split(key), split(value))
    return mixed.transpose(0, 2, 1, 3).reshape(b, n, width)  # [B, N, D]


def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Scaled q [B, H, N, d], k and v [B, H, M, d] → [B, H, N, d], all logits at once."""
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, v)
