"""AdamW's parts by hand: schedule, clipping rule, one decayed update."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from echofm_jax.optimizer import adamw, clip_by_global_norm, clip_each_part, learning_rate

SCHEDULE = {"peak": 2.0, "minimum": 0.5, "warmup": 10.0, "epochs": 110.0}


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 0.0),
        (5, 1.0),
        (10, 2.0),  # the top of the warm-up
        (15, 0.5 + 1.5 * (1 + np.cos(np.pi / 20)) / 2),
        (35, 0.5 + 1.5 * (1 + np.cos(np.pi / 4)) / 2),
        (60, 1.25),  # half-way down
        (110, 0.5),
        (500, 0.5),  # and it stays there
    ],
)
def test_schedule(epoch, rate):
    np.testing.assert_allclose(learning_rate(epoch, **SCHEDULE), rate, rtol=1e-6, atol=1e-7)


def test_no_warm_up_starts_at_the_peak():
    rate = learning_rate(0, peak=2.0, minimum=0.0, warmup=0.0, epochs=10.0)
    np.testing.assert_allclose(rate, 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("gradient", "limit", "expected"),
    [
        ([3e-3, 4e-3], 0.02, 1.0),  # below the limit nothing changes
        ([3.0, 4.0], 0.02, 0.02 / (5 + 1e-6)),
        ([3e-6, 4e-6], 5e-6, 5 / 6),  # PyTorch's epsilon shows in small norms
        ([0.0, 0.0], 0.02, 1.0),
    ],
)
def test_clipping_rule(gradient, limit, expected):
    clip = clip_by_global_norm(limit)
    tree = {"a": jnp.array(gradient[:1]), "b": {"kernel": jnp.array(gradient[1:])}}
    clipped, _ = clip.update(tree, clip.init(tree))
    found = np.concatenate([clipped["a"], clipped["b"]["kernel"]])
    np.testing.assert_allclose(found, np.array(gradient) * expected, rtol=1e-5)


def test_parts_may_be_clipped_apart():
    """A head's large gradient leaves the backbone's alone."""
    tree = {"backbone": {"a": jnp.array([0.6]), "b": jnp.array([0.8])}, "head": jnp.array([30.0])}
    clip = clip_each_part(3.0)
    found, _ = clip.update(tree, clip.init(tree))
    np.testing.assert_allclose([*found["backbone"].values(), found["head"]], [[0.6], [0.8], [3.0]])
    whole, _ = clip_by_global_norm(3.0).update(tree, ())
    assert whole["backbone"]["a"] < 0.07


def test_two_updates_by_hand():
    rates, clip_norm, decay, b1, b2 = (0.1, 0.05), 1.0, 0.05, 0.9, 0.95
    optimizer = adamw(lambda n: jnp.array(rates)[n], clip_norm=clip_norm, weight_decay=decay)
    half = adamw(lambda n: jnp.array(rates)[n], clip_norm=clip_norm, weight_decay=decay,
                 moments_dtype="bfloat16")  # fmt: skip
    params = {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}
    state, half_state = optimizer.init(params), half.init(params)
    x, m, v = np.array([1.0, -2.0, 0.5]), np.zeros(3), np.zeros(3)
    decayed = np.array([1.0, 1.0, 0.0])  # the bias is not
    for count, gradient in enumerate(([3.0, 4.0, 0.0], [0.1, -0.2, 0.3])):
        g = np.array(gradient) * min(1, clip_norm / (np.linalg.norm(gradient) + 1e-6))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1 ** (count + 1)), v / (1 - b2 ** (count + 1))
        x = x - rates[count] * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay * decayed * x)
        grads = {"kernel": jnp.array(gradient[:2]), "bias": jnp.array(gradient[2:])}
        half_updates, half_state = half.update(grads, half_state, params)
        updates, state = optimizer.update(grads, state, params)
        # Only what is kept is rounded: the first update is the same, the second nearly.
        for name in params:
            tolerance = 1e-2 if count else 1e-6
            np.testing.assert_allclose(half_updates[name], updates[name], rtol=tolerance)
            assert half_updates[name].dtype == jnp.float32
        params = optax.apply_updates(params, updates)
        found = np.concatenate([params["kernel"], params["bias"]])
        np.testing.assert_allclose(found, x, rtol=1e-5)
    moments = half_state[1]
    assert moments.count.dtype == jnp.int32
    for tree in (moments.mu, moments.nu):
        assert {x.dtype for x in tree.values()} == {jnp.dtype("bfloat16")}
