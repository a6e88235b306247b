"""Softmax attention behind one function, so that a kernel can take its place."""

import jax
import jax.numpy as jnp


def attention(query: jax.Array, key: jax.Array, value: jax.Array, heads: int) -> jax.Array:
    """[B, N, D], [B, M, D], [B, M, D] → [B, N, D]; softmax in float32."""
    b, n, width = query.shape

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(b, -1, heads, width // heads).transpose(0, 2, 1, 3)  # [B, H, N, d]

    q, k, v = split(query) * (width // heads) ** -0.5, split(key), split(value)
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bhnm,bhmd->bhnd", weights, v)
    return mixed.transpose(0, 2, 1, 3).reshape(b, n, width)  # [B, N, D]
