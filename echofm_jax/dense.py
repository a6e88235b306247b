"""A dense layer whose bias costs its backward pass next to nothing on a matrix unit."""

import jax
import jax.numpy as jnp
from flax import nnx

XAVIER = nnx.initializers.xavier_uniform()


class Dense(nnx.Module):
    """Float32 `kernel` [inputs, outputs] and `bias` [outputs]; computes in `dtype`."""

    def __init__(self, inputs: int, outputs: int, dtype: str, rngs: nnx.Rngs, init=XAVIER):
        self.dtype = dtype
        self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., inputs] → [..., outputs]."""
        return dense(x, self.kernel[...], self.bias[...], self.dtype)


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: str) -> jax.Array:
    """x [..., inputs] · kernel [inputs, outputs] + bias [outputs] in `dtype`."""
    return add_bias(jnp.dot(x.astype(dtype), kernel.astype(dtype)), bias)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x [..., D] + bias [D], in x's dtype.

    The bias's gradient, a sum over all tokens, is taken as a product with ones: summing on the
    vector unit reads every gradient once more, which took 5 % of a ViT-L layer's cycles.
    """
    return x + bias.astype(x.dtype)


def _add_bias_forward(x, bias):
    return add_bias(x, bias), None


def _add_bias_backward(_, gradient):
    rows = gradient.reshape(-1, gradient.shape[-1])  # [tokens, D]
    ones = jnp.ones((8, rows.shape[0]), rows.dtype)  # a tile's rows; a single one becomes a sum
    total = jnp.dot(ones, rows, precision="highest", preferred_element_type=jnp.float32)[0]
    return gradient, total


add_bias.defvjp(_add_bias_forward, _add_bias_backward)
