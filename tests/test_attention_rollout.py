"""Attention roll-out: of the network that encodes, shares of a whole, and where they go."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_model import ARCH

from echofm_jax.attention_rollout import attend, relevance, rollout
from echofm_jax.encode import encode
from echofm_jax.model import bind, init_params, positions_of, prepend
from echofm_jax.patches import patchify, to_unit, with_channels


@pytest.fixture(scope="module")
def params():
    """With position embeddings and attention far from the even ones of a fresh model."""
    fresh = jax.jit(init_params, static_argnums=0)(ARCH, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + 0.15 * rng.normal(size=x.shape).astype(x.dtype), fresh)


@pytest.fixture(scope="module")
def clips():
    shape = (2, ARCH.frames, ARCH.size, ARCH.size)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def found(params, clips):
    return jax.jit(functools.partial(rollout, arch=ARCH))(params, clips)


def embedded(encoder, clips):
    """What enters the first block."""
    every = np.broadcast_to(np.arange(ARCH.tokens), (len(clips), ARCH.tokens))
    patches = to_unit(patchify(with_channels(clips), ARCH.tubelet, ARCH.patch))
    x = encoder.patch_embed(patches) + positions_of(encoder, every, ARCH.positions)
    return prepend(encoder.cls_token + encoder.pos_cls, x)


def test_it_is_the_network_that_encodes(params, clips, found):
    tokens = jax.jit(functools.partial(encode, arch=ARCH))(params, clips).tokens
    assert np.abs(np.asarray(tokens)).max() > 1
    np.testing.assert_allclose(found.tokens, tokens, atol=1e-5)


def test_rows_are_shares_of_a_whole(found):
    n = 1 + ARCH.tokens
    assert found.shares.shape == (2, n, n) and found.shares.min() >= 0
    np.testing.assert_allclose(found.shares.sum(-1), 1, atol=1e-5)
    # Half of every block's output is its input's.
    diagonal = np.diagonal(found.shares, axis1=1, axis2=2)
    assert diagonal.min() >= 0.5**ARCH.depth and found.shares.std() > 1e-3


def test_blocks_are_multiplied_the_last_one_leftmost(params, clips, found):
    """(A₂ + I)/2 · (A₁ + I)/2, from each block's own weights."""
    encoder = bind(ARCH, params).encoder
    first, second = (jax.tree.map(lambda x, i=i: x[i], encoder.blocks) for i in (0, 1))
    shallow = dataclasses.replace(ARCH, depth=1)
    blocks = jax.tree.map(lambda x: x[:1], params["encoder"]["blocks"])
    one = rollout(
        {**params, "encoder": {**params["encoder"], "blocks": blocks}}, clips, arch=shallow
    )
    _, weights = attend(second.attn, second.norm1(first(embedded(encoder, clips))))
    half = (np.asarray(weights) + np.eye(1 + ARCH.tokens)) / 2
    np.testing.assert_allclose(found.shares, half @ np.asarray(one.shares), atol=1e-5)


def test_weights_are_those_of_the_attention(params):
    layer = jax.tree.map(lambda x: x[0], bind(ARCH, params).encoder.blocks).attn
    y = jnp.asarray(np.random.default_rng(2).normal(size=(2, 9, ARCH.width)), jnp.float32)
    mixed, weights = attend(layer, y)
    np.testing.assert_allclose(mixed, layer(y, y), atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


def test_relevance_is_in_units_of_an_even_share():
    n = 1 + ARCH.tokens
    even = np.full((1, n, n), 1 / n)
    np.testing.assert_allclose(relevance(even, ARCH), 1, rtol=1e-5)
    shares = np.zeros((1, n, n))
    shares[:, :, 0] = 0.5  # the CLS token's part does not count
    shares[:, :, 1 + 2 * ARCH.positions + 5] = 0.5
    seen = np.asarray(relevance(shares, ARCH))
    assert seen.shape == (1, ARCH.steps, ARCH.positions)
    assert seen[0, 2, 5] == pytest.approx(ARCH.tokens) and np.count_nonzero(seen) == 1
    shares[:, 0] = 0
    shares[:, 0, 1] = 1  # nor what the CLS token draws
    assert np.count_nonzero(relevance(shares, ARCH)) == 1
