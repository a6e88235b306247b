"""Softmax attention behind one function; which algorithm runs follows from the platform."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from echofm_jax.cpu_attention import blockwise
from echofm_jax.errors import InputError
from echofm_jax.fused_attention import LANES, fused
from echofm_jax.sharding import over_heads
from echofm_jax.splash_attention import splash

KINDS = ("auto", "plain", "splash")


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    heads: int,
    scale: float,
    kind: str = "auto",
) -> jax.Array:
    """[B, N, H·d], [B, M, H·d], [B, M, H·d] → [B, N, H·d]; softmax in float32.

    Args:
      query, key, value: the dense layers' outputs, heads side by side.
      heads: H.
      scale: of the logits.
      kind: `auto` takes the fastest for the platform; `plain` and, on TPUs, `splash` (the kernel
        that JAX ships) are there to compare with.

    Raises:
      InputError: `splash` elsewhere than on TPUs.
    """
    if kind == "splash" and target() != "tpu":
        raise InputError(f"model.attention=splash runs on TPUs, not on {target()}: choose auto")
    if target() == "tpu" and kind != "plain" and query.shape[-1] <= heads * LANES:
        run = splash if kind == "splash" else fused
    elif target() == "gpu" and kind == "auto" and for_cudnn(query, heads):
        run = cudnn
    else:
        algorithm = blockwise if target() == "cpu" and kind == "auto" else plain
        run = functools.partial(heads_major, algorithm)
    return over_heads(functools.partial(run, scale=scale), heads)(query, key, value)


def target() -> str:
    """The platform that is compiled for: of the mesh in scope, else this process's own."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.default_backend() if mesh.empty else mesh.abstract_device.platform


def head_lanes(head_dim: int, kind: str) -> int:
    """Channels that a head should take in q, k and v, the true ones first and then zeros.

    Heads of 80 or 88 channels do not fill a TPU's lanes: it is cheaper to multiply by a kernel with
    zeros between the heads than to move activations apart afterwards.
    """
    packs = LANES % head_dim == 0 or head_dim > LANES
    return head_dim if packs or kind != "auto" or target() != "tpu" else LANES


def widen_heads(parameter: jax.Array, heads: int, lanes: int, *, axis: int) -> jax.Array:
    """Zeros behind each head's channels along `axis`: H·d → H·lanes."""
    before, after = parameter.shape[:axis], parameter.shape[axis + 1 :]
    head_dim = parameter.shape[axis] // heads
    if head_dim == lanes:
        return parameter
    apart = parameter.reshape(*before, heads, head_dim, *after)
    padding = [(0, 0)] * apart.ndim
    padding[axis + 1] = (0, lanes - head_dim)
    return jnp.pad(apart, padding).reshape(*before, heads * lanes, *after)


def heads_major(
    algorithm: Callable,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    heads: int,
    scale: float,
) -> jax.Array:
    """Apply `algorithm` to scaled q [B, H, N, d], k and v [B, H, M, d]."""
    b, n, width = query.shape

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(b, -1, heads, width // heads).transpose(0, 2, 1, 3)  # [B, H, N, d]

    mixed = algorithm(split(query) * scale, split(key), split(value))
    return mixed.transpose(0, 2, 1, 3).reshape(b, n, width)  # [B, N, H·d]


def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Scaled q [B, H, N, d], k and v [B, H, M, d] → [B, H, N, d], all logits at once."""
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, v)


def for_cudnn(query: jax.Array, heads: int) -> bool:
    """Whether cuDNN's kernel takes queries [B, N, H·d]."""
    head_dim = query.shape[-1] // heads
    return query.dtype == jnp.bfloat16 and head_dim % 8 == 0 and head_dim <= LANES


def cudnn(
    query: jax.Array, key: jax.Array, value: jax.Array, heads: int, scale: float
) -> jax.Array:
    """cuDNN's kernel, which never writes the logits; half precision. Shapes as `attention`."""
    (b, n, width), m = query.shape, key.shape[1]

    def even(x: jax.Array) -> jax.Array:
        """It takes even numbers of tokens: zeros behind make them so, [B, N + N % 2, H, d]."""
        x = jnp.pad(x, [(0, 0), (0, x.shape[1] % 2), (0, 0)])
        return x.reshape(b, -1, heads, width // heads)

    mixed = jax.nn.dot_product_attention(
        even(query), even(key), even(value), scale=scale, implementation="cudnn",
        query_seq_lengths=jnp.full(b, n), key_value_seq_lengths=jnp.full(b, m),
    )[:, :n]  # fmt: skip
    return mixed.reshape(b, n, width)  # [B, N, H·d]
