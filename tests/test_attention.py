"""Every attention gives the plain one's output and gradients, whatever the shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel

from echofm_jax import model
from echofm_jax.attention import attention, heads_major, plain, widen_heads
from echofm_jax.cpu_attention import BLOCK, blockwise
from echofm_jax.errors import InputError
from echofm_jax.fused_attention import FORWARD_ROWS, fused
from echofm_jax.model import Attention
from echofm_jax.splash_attention import splash


def assert_equal_to_plain(run, *, queries: int, keys: int, width: int, heads: int):
    sizes = (queries, keys, keys, queries)
    q, k, v, gradient = (
        jax.random.normal(key, (2, n, width)) * 2
        for key, n in zip(jax.random.split(jax.random.key(0), 4), sizes, strict=True)
    )
    expected, pull_expected = jax.vjp(lambda *x: heads_major(plain, *x, heads, 0.3), q, k, v)
    found, pull = jax.vjp(run, q, k, v)
    for a, b in zip((found, *pull(gradient)), (expected, *pull_expected(gradient)), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6 * np.abs(b).max())


@pytest.mark.parametrize(("queries", "keys"), [(BLOCK + 37, 61), (5, 2 * BLOCK)])
def test_blockwise_attention_equals_the_plain_one(queries, keys):
    def run(q, k, v):
        return heads_major(blockwise, q, k, v, 3, 0.3)

    assert_equal_to_plain(run, queries=queries, keys=keys, width=24, heads=3)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "heads"),
    [
        (49, 49, 128, 4),  # the decoder's heads of 32, one block of lanes
        (FORWARD_ROWS * 2 + 21, 33, 64, 1),  # blocks that reach beyond the last query
        (20, 37, 192, 6),  # lanes that are left over
        (50, 50, 256, 2),  # a head as wide as a block
    ],
)
def test_the_tpu_kernel_equals_the_plain_one(queries, keys, width, heads):
    def run(q, k, v):
        return fused(q, k, v, heads, 0.3, interpret=True)

    assert_equal_to_plain(run, queries=queries, keys=keys, width=width, heads=heads)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
@pytest.mark.parametrize(("queries", "keys"), [(393, 393), (1178, 1569), (64, 50)])
def test_cudnns_kernel_is_as_near_as_the_plain_one(queries, keys):
    sizes = (queries, keys, keys, queries)
    arrays = [
        jax.random.normal(key, (2, n, 128))
        for key, n in zip(jax.random.split(jax.random.key(0), 4), sizes, strict=True)
    ]

    def run(kind: str, dtype: type) -> list:
        *qkv, gradient = (x.astype(dtype) for x in arrays)
        found, pull = jax.vjp(lambda *x: attention(*x, 4, 0.3, kind), *qkv)
        return [np.asarray(x, np.float32) for x in (found, *pull(gradient))]

    exact = run("plain", jnp.float32)
    for name in ("plain", "auto"):
        for a, b in zip(run(name, jnp.bfloat16), exact, strict=True):
            assert np.linalg.norm(a - b) < 0.01 * np.linalg.norm(b), name


def test_splash_equals_the_plain_one(monkeypatch):
    # The kernel that JAX ships can be interpreted too; only its factory has the switch.
    factory = splash_attention_kernel.make_splash_mha_single_device
    monkeypatch.setattr(
        splash_attention_kernel,
        "make_splash_mha_single_device",
        lambda *args, **kwargs: factory(*args, **kwargs, interpret=True),
    )
    assert_equal_to_plain(
        lambda q, k, v: splash(q, k, v, 2, 0.3), queries=150, keys=100, width=64, heads=2
    )


def test_splash_is_refused_where_there_is_no_tpu():
    x = jnp.zeros((1, 4, 8))
    with pytest.raises(InputError, match=r"model\.attention=splash runs on TPUs, not on cpu"):
        attention(x, x, x, 2, 1.0, "splash")


@pytest.mark.parametrize("axis", [0, 1])
def test_wider_heads_are_zeros_behind_the_true_channels(axis):
    kernel = np.arange(36.0).reshape(6, 6)
    wide = np.moveaxis(np.asarray(widen_heads(jnp.asarray(kernel), 2, 4, axis=axis)), axis, 0)
    kept = np.moveaxis(kernel, axis, 0)
    np.testing.assert_array_equal(wide[:3], kept[:3])
    np.testing.assert_array_equal(wide[4:7], kept[3:])
    assert not wide[[3, 7]].any()


def test_attention_with_wider_heads_is_the_same(monkeypatch):
    layer = Attention(160, 2, "float32", "auto", nnx.Rngs(0))  # heads of 80, as in ViT-H
    x, keys = jax.random.normal(jax.random.key(1), (2, 2, 7, 160))
    expected = layer(x, keys)
    monkeypatch.setattr(model, "head_lanes", lambda head_dim, kind: 128)
    np.testing.assert_allclose(layer(x, keys), expected, rtol=1e-5, atol=1e-6)
