"""Softmax attention for CPUs: `attention.plain` in memory that stays in cache."""

import functools

import jax
import jax.numpy as jnp

from echofm_jax.remat import saved

# Query rows whose logits exist at once. They stay in cache, and the same memory serves every
# block: touching fresh pages for whole [N, N] matrices costs more than the arithmetic.
BLOCK = 256


@jax.custom_vjp
def blockwise(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Scaled q [B, H, N, d], k and v [B, H, M, d] → [B, H, N, d].

    One head and `BLOCK` queries at a time.

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
    out, norm = saved(out), saved(norm)
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
    return [slice(i, min(i + BLOCK, rows)) for i in range(0, rows, BLOCK)]


def _flat(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(x.reshape(-1, *x.shape[2:]) for x in arrays)  # [B·H, N, d]


_dot = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
