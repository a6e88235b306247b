"""Softmax attention behind one function; which algorithm runs follows from the platform."""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from echofm_jax.sharding import over_heads

# Query rows whose logits exist at once on a CPU. They stay in cache, and the same memory serves
# every block: touching fresh pages for whole [N, N] matrices costs more than the arithmetic.
CPU_BLOCK = 256
# The name of what rematerialisation keeps: one row of output for all of a row's logits.
SAVED = "attention"


def attention(query: jax.Array, key: jax.Array, value: jax.Array, heads: int) -> jax.Array:
    """[B, N, D], [B, M, D], [B, M, D] → [B, N, D]; softmax in float32."""
    b, n, width = query.shape

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(b, -1, heads, width // heads).transpose(0, 2, 1, 3)  # [B, H, N, d]

    q, k, v = split(query) * (width // heads) ** -0.5, split(key), split(value)
    kernel = functools.partial(jax.lax.platform_dependent, cpu=blockwise, default=plain)
    mixed = over_heads(kernel)(q, k, v)
    return mixed.transpose(0, 2, 1, 3).reshape(b, n, width)  # [B, N, D]


def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Scaled q [B, H, N, d], k and v [B, H, M, d] → [B, H, N, d], all logits at once."""
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, v)


@jax.custom_vjp
def blockwise(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The same as `plain`, one head and `CPU_BLOCK` queries at a time.

    The backward pass recomputes the logits from their log-sum-exp (FlashAttention, Dao et al.
    2022, section 3.1 and appendix B.2).
    """
    return _forward(q, k, v)[0]


def _forward(q, k, v):
    def head(_, x):
        q, k, v = x  # [N, d], [M, d], [M, d]
        mixed, norms = [], []
        for rows in _blocks(q.shape[0]):
            logits = _dot(q[rows], k.T)  # [block, M] float32
            top = logits.max(-1, keepdims=True)
            weights = jnp.exp(logits - top)
            total = weights.sum(-1, keepdims=True)
            mixed.append((_dot(weights.astype(v.dtype), v) / total).astype(v.dtype))
            norms.append(top + jnp.log(total))
        return None, (jnp.concatenate(mixed), jnp.concatenate(norms))

    _, (out, norm) = jax.lax.scan(head, None, _flat(q, k, v))
    out, norm = checkpoint_name(out, SAVED), checkpoint_name(norm, SAVED)
    return out.reshape(q.shape), (q, k, v, out, norm)


def _backward(residuals, gradient):
    q, k, v, out, norm = residuals
    shapes = q.shape, k.shape, v.shape
    q, k, v, gradient = _flat(q, k, v, gradient)
    delta = (out * gradient).astype(jnp.float32).sum(-1, keepdims=True)  # [B·H, N, 1]

    def head(_, x):
        q, k, v, gradient, norm, delta = x
        dq, dk, dv = [], 0.0, 0.0
        for rows in _blocks(q.shape[0]):
            weights = jnp.exp(_dot(q[rows], k.T) - norm[rows])  # [block, M]
            dv += _dot(weights.astype(v.dtype).T, gradient[rows])
            dlogits = weights * (_dot(gradient[rows], v.T) - delta[rows])
            dlogits = dlogits.astype(q.dtype)
            dq.append(_dot(dlogits, k))
            dk += _dot(dlogits.T, q[rows])
        return None, (jnp.concatenate(dq), dk, dv)

    _, grads = jax.lax.scan(head, None, (q, k, v, gradient, norm, delta))
    return tuple(g.reshape(s).astype(q.dtype) for g, s in zip(grads, shapes, strict=True))


blockwise.defvjp(_forward, _backward)


def _blocks(rows: int) -> list[slice]:
    return [slice(i, min(i + CPU_BLOCK, rows)) for i in range(0, rows, CPU_BLOCK)]


def _flat(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(x.reshape(-1, *x.shape[2:]) for x in arrays)  # [B·H, N, d]


_dot = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
