"""DINO's projection head: three dense layers, a unit vector, its cosines with K prototypes."""

import itertools

import jax
import jax.numpy as jnp

from echofm_jax.dense import dense
from echofm_jax.model import SMALL, gelu

LAYERS = ("fc1", "fc2", "fc3")


def init_head(width: int, hidden: int, bottleneck: int, prototypes: int, key: jax.Array) -> dict:
    """Fresh parameters; `last` is a direction `kernel` and a length `norm` for each prototype."""
    sizes = (width, hidden, hidden, bottleneck)
    *keys, last = jax.random.split(key, 4)
    head = {
        name: {"kernel": SMALL(key, shape), "bias": jnp.zeros(shape[1])}
        for name, key, shape in zip(LAYERS, keys, itertools.pairwise(sizes), strict=True)
    }
    bound = bottleneck**-0.5  # PyTorch's for a dense layer
    kernel = jax.random.uniform(last, (bottleneck, prototypes), minval=-bound, maxval=bound)
    return head | {"last": {"kernel": kernel, "norm": jnp.ones(prototypes)}}


def prototype_scores(params: dict, x: jax.Array, dtype: str) -> jax.Array:
    """Tokens [..., D] → logits [..., K] float32; matrix products in `dtype`."""
    for name in LAYERS[:-1]:
        x = gelu(dense(x, params[name]["kernel"], params[name]["bias"], dtype))  # [..., hidden]
    x = dense(x, params["fc3"]["kernel"], params["fc3"]["bias"], dtype)  # [..., bottleneck]
    x = unit(x.astype(jnp.float32), axis=-1)
    kernel = unit(params["last"]["kernel"], axis=0) * params["last"]["norm"]  # [bottleneck, K]
    return jnp.dot(x.astype(dtype), kernel.astype(dtype), preferred_element_type=jnp.float32)


def unit(x: jax.Array, axis: int, eps: float = 1e-12) -> jax.Array:
    """Vectors along `axis` at length 1, those shorter than `eps` divided by it."""
    squares = (x * x).sum(axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, eps**2))
