"""The gate of the periodic contrast on priors made by hand: beats, drifts, and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np

from echofm_jax.cycle_gate import cycle_gate, rebound

STEPS = 16


def prior_of(phases) -> jnp.ndarray:
    """Phases [t] in cycles → prior [1, t, t]: 1 in the same phase, -1 in the opposite one."""
    angle = 2 * np.pi * np.asarray(phases)
    return jnp.asarray(np.cos(angle[:, None] - angle), jnp.float32)[None]


def test_every_step_of_regular_beats_counts_fully():
    regular = prior_of(np.arange(STEPS) / 4)
    np.testing.assert_allclose(rebound(regular), 2, atol=1e-6)
    np.testing.assert_array_equal(cycle_gate(regular, 1.0), np.ones((1, STEPS)))


def test_a_drift_counts_nothing_and_is_told_apart_clip_by_clip():
    drift = prior_of(np.arange(STEPS) / 40)  # 0.375 of a cycle: similarity only falls
    clips = jnp.concatenate([drift, prior_of(np.arange(STEPS) / 4)])  # [2, t, t]
    np.testing.assert_array_equal(cycle_gate(clips, 0.5), [[0] * STEPS, [1] * STEPS])


def test_a_drift_that_stands_still_counts_nothing():
    np.testing.assert_array_equal(cycle_gate(jnp.ones((1, 8, 8)), 0.5), np.zeros((1, 8)))


def test_beats_of_all_lengths_count_fully():
    """Lengths as in atrial fibrillation: no lag is the same for two beats, each comes back."""
    beats = [np.arange(n) / n + k for k, n in enumerate((3, 6, 2, 5))]  # 16 steps
    np.testing.assert_array_equal(
        cycle_gate(prior_of(np.concatenate(beats)), 1.0), np.ones((1, 16))
    )


def test_one_beat_and_a_bit_counts_where_a_phase_comes_back():
    """12 steps of a 10-step beat: the two at either end have seen themselves again."""
    gate = np.asarray(cycle_gate(prior_of(np.arange(12) / 10), 2.0))[0]
    np.testing.assert_allclose(gate[[0, 1, 10, 11]], 1, atol=1e-6)
    assert (gate[2:10] < 0.97).all() and gate[5] < gate[3] < gate[2]


def test_rebound_is_the_written_definition():
    prior = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    expected = np.zeros((3, 8))
    for b, i, j in np.ndindex(prior.shape):
        if abs(i - j) >= 2:
            between = prior[b, i, min(i, j) + 1 : max(i, j)]
            expected[b, i] = max(expected[b, i], prior[b, i, j] - between.min())
    np.testing.assert_allclose(rebound(jnp.asarray(prior)), expected, rtol=1e-6)
    np.testing.assert_allclose(
        cycle_gate(jnp.asarray(prior), 4.0), np.minimum(expected / 4, 1), rtol=1e-6
    )


def test_no_gradient_passes_the_gate():
    gradient = jax.grad(lambda prior: cycle_gate(prior, 4.0).sum())(prior_of(np.arange(8) / 4))
    np.testing.assert_array_equal(gradient, np.zeros((1, 8, 8)))
