"""The losses against plain loops and against PyTorch's pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echofm_jax.losses import (
    cycle_distillation,
    periodic_contrast,
    pixel_prior,
    pool_matrix,
    reconstruction,
    self_similarity,
)

RNG = np.random.default_rng(0)


def test_contrast_is_the_written_definition():
    similarity = np.asarray(self_similarity(jnp.asarray(RNG.normal(size=(3, 8, 5)))))
    prior = np.asarray(self_similarity(jnp.asarray(RNG.normal(size=(3, 8, 5)))))
    losses = []
    for s, p in zip(similarity, prior, strict=True):
        for i in range(8):
            mean = np.mean([p[i, j] for j in range(8) if j != i])
            positives = [s[i, j] for j in range(8) if j != i and p[i, j] > mean]
            negatives = [s[i, j] for j in range(8) if abs(i - j) > 1 and p[i, j] <= mean]
            if positives and negatives:
                losses.append(max(max(negatives) - min(positives) + 0.2, 0))
    found = periodic_contrast(jnp.asarray(similarity), jnp.asarray(prior), margin=0.2)
    np.testing.assert_allclose(found.loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(found.active, np.mean(np.array(losses) > 0), rtol=1e-6)


def test_contrast_without_a_valid_anchor_is_zero():
    flat = jnp.ones((2, 8, 8))
    assert periodic_contrast(flat, flat, margin=0.2).loss == 0


def test_distillation_is_zero_for_the_teacher_and_positive_otherwise():
    prior = self_similarity(jnp.asarray(RNG.normal(size=(2, 8, 5))))
    assert abs(cycle_distillation(prior, prior, tau=0.1)) < 1e-6
    assert cycle_distillation(jnp.zeros_like(prior), prior, tau=0.1) > 0.1


@pytest.mark.parametrize("side", [32, 40, 100, 112, 224, 230])
def test_pooling_is_pytorchs_adaptive_average(side):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    image = RNG.random((side, side), np.float32)
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(image)[None], 32)[0]
    ours = pool_matrix(side) @ image @ pool_matrix(side).T
    np.testing.assert_allclose(ours, pooled.numpy(), rtol=1e-5, atol=1e-6)


def test_prior_finds_the_period_and_ignores_what_stands_still():
    t = np.arange(32)
    y, x = np.mgrid[:64, :64]
    blob = np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 200)
    moving = 40 * np.sin(2 * np.pi * t / 16)[:, None, None] * blob
    clip = 128 + 80 * (x > 32) + moving
    prior = np.asarray(pixel_prior(jnp.asarray(clip[None] / 255), 4, 1.0))[0]
    assert prior[0, 4] > 0.99 and prior[0, 2] < -0.9


def test_reconstruction_normalises_each_patch():
    targets = RNG.random((2, 5, 16, 1), np.float32)
    copies = np.repeat(targets, 3, -1).reshape(2, 5, -1)
    mean, std = copies.mean(-1, keepdims=True), copies.std(-1, ddof=1, keepdims=True)
    perfect = ((copies - mean) / np.sqrt(std**2 + 1e-6)).reshape(2, 5, 16, 3)
    loss = reconstruction(jnp.asarray(perfect), jnp.asarray(targets), normalise=True)
    assert loss < 1e-10
    assert reconstruction(jnp.asarray(perfect), jnp.asarray(targets), normalise=False) > 0.1


def test_without_their_mean_nearly_equal_embeddings_still_have_a_gradient():
    """Where embeddings collapse to one vector, plain cosines are flat."""
    rng = np.random.default_rng(0)
    moving = rng.normal(size=(1, 8, 16)).astype(np.float32)
    prior = self_similarity(jnp.asarray(moving), 1.0)
    collapsed = jnp.asarray(100 * np.ones(16, np.float32) + 1e-2 * rng.normal(size=(1, 8, 16)))

    def pull(alpha):
        loss = lambda z: cycle_distillation(self_similarity(z, alpha), prior, tau=0.1)  # noqa: E731
        return float(jnp.abs(jax.grad(loss)(collapsed)).max())

    assert pull(0.0) < 1e-3 and pull(1.0) > 1


def test_similarity_without_the_mean_is_of_what_moves():
    z = jnp.asarray([[[5.0, 1], [5, -1], [5, 1]]])
    np.testing.assert_allclose(self_similarity(z, 1.0)[0, 0], [1, -1, 1], atol=1e-5)
    assert float(self_similarity(z)[0, 0, 1]) > 0.9
