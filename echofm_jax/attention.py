"""Softmax attention behind one function, so that a kernel can take its place."""
import jax
import jax.numpy as jnp


def attention(query: jax.Array, key: jax.Array, value: jax.Array, heads: int) -> jax.Array:
    """[B, N, D], [B, M, D], [B, M, D] → [B, N, D]; softmax in float32."""
    b, n, width = query.shape
    split = lambda x: x.reshape(b, -1, heads, width // heads).transpose(0, 2, 1, 3)
    q, k, v = split(query) * (width // heads) ** -0.5, split(key), split(value)  # [B, H, N, d]
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bhnm,bhmd->bhnd", weights, v)
    return mixed.transpose(0, 2, 1, 3).reshape(b, n, width)  # [B, N, D]
