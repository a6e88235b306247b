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


@pytest.mark.parametrize("lag", [1, 2, 5])
@pytest.mark.parametrize("gated", [False, True])
def test_contrast_is_the_written_definition(lag, gated):
    similarity = np.asarray(self_similarity(jnp.asarray(RNG.normal(size=(3, 8, 5)))))
    prior = np.asarray(self_similarity(jnp.asarray(RNG.normal(size=(3, 8, 5)))))
    gate = RNG.random((3, 8)) * (RNG.random((3, 8)) > 0.3) if gated else np.ones((3, 8))
    losses, weights = [], []
    for b, i in np.ndindex(3, 8):
        s, p = similarity[b, i], prior[b, i]
        mean = np.mean([p[j] for j in range(8) if j != i])
        positives = [s[j] for j in range(8) if abs(i - j) >= lag and p[j] > mean]
        negatives = [s[j] for j in range(8) if abs(i - j) > 1 and p[j] <= mean]
        if positives and negatives:
            losses.append(max(max(negatives) - min(positives) + 0.2, 0))
            weights.append(gate[b, i])
    found = periodic_contrast(
        jnp.asarray(similarity),
        jnp.asarray(prior),
        margin=0.2,
        min_positive_lag=lag,
        gate=jnp.asarray(gate) if gated else None,
    )
    active = np.array(losses) > 0
    np.testing.assert_allclose(found.loss, np.average(losses, weights=weights), rtol=1e-5)
    np.testing.assert_allclose(found.active, np.average(active, weights=weights), rtol=1e-6)


def test_a_positive_next_to_its_anchor_counts_only_if_allowed():
    """Prior and similarity are 1 one step away and 0 elsewhere: nothing else is a positive."""
    near = jnp.asarray(np.abs(np.subtract.outer(np.arange(8), np.arange(8))) <= 1, jnp.float32)
    close, far = near[None], 1 - near[None]
    assert periodic_contrast(far, close, margin=0.2).loss == pytest.approx(1.2)
    assert periodic_contrast(far, close, margin=0.2, min_positive_lag=2).loss == 0


def test_contrast_without_a_valid_anchor_is_zero():
    flat = jnp.ones((2, 8, 8))
    assert periodic_contrast(flat, flat, margin=0.2).loss == 0


def test_distillation_is_zero_for_the_teacher_and_positive_otherwise():
    prior = self_similarity(jnp.asarray(RNG.normal(size=(2, 8, 5))))
    assert abs(cycle_distillation(prior, prior, tau=0.1)) < 1e-6
    assert cycle_distillation(jnp.zeros_like(prior), prior, tau=0.1) > 0.1


def test_distillation_weighs_rows_by_the_gate():
    prior = self_similarity(jnp.asarray(RNG.normal(size=(2, 8, 5))))
    similarity = self_similarity(jnp.asarray(RNG.normal(size=(2, 8, 5))))
    gate = RNG.random((2, 8))
    p, q = (np.exp(np.asarray(x) / 0.1) * (1 - np.eye(8)) for x in (prior, similarity))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    rows = (p * np.log((p + np.eye(8)) / (q + np.eye(8)))).sum(-1)  # [B, t]
    found = cycle_distillation(similarity, prior, tau=0.1, gate=jnp.asarray(gate))
    np.testing.assert_allclose(found, np.average(rows, weights=gate), rtol=1e-4)
    whole = cycle_distillation(similarity, prior, tau=0.1)
    np.testing.assert_allclose(whole, rows.mean(), rtol=1e-4)


def test_nothing_is_taught_where_the_gate_is_shut():
    z = jnp.asarray(RNG.normal(size=(2, 8, 5)))
    prior = self_similarity(jnp.asarray(RNG.normal(size=(2, 8, 5))))

    def loss(z, gate):
        similarity = self_similarity(z)
        contrast = periodic_contrast(similarity, prior, margin=0.2, gate=gate)
        return contrast.loss + cycle_distillation(similarity, prior, tau=0.1, gate=gate)

    value, gradient = jax.value_and_grad(loss)(z, jnp.zeros((2, 8)))
    assert value == 0 and not np.any(gradient)
    value, gradient = jax.value_and_grad(loss)(z, jnp.asarray([[1.0] * 8, [0.0] * 8]))
    assert value > 0.1 and np.any(gradient[0]) and not np.any(gradient[1])


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
