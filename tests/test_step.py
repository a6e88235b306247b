"""One update: accumulation, skipping, and the parameters' moving average."""

import functools

import jax
import numpy as np
import pytest
from test_model import ARCH, batch

from echofm_jax.objectives import Time
from echofm_jax.objectives.echofm import EchoFMObjective
from echofm_jax.optimizer import adamw, decay_mask
from echofm_jax.step import init_state, state_from_params, train_step

OBJECTIVE = EchoFMObjective()
OPTIMIZER = adamw(lambda count: 1e-3, clip_norm=0.02, weight_decay=0.05)


@pytest.fixture(scope="module")
def state():
    return jax.jit(functools.partial(init_state, ARCH, OBJECTIVE, OPTIMIZER))(jax.random.key(0))


def update(state, data, **options):
    step = functools.partial(
        train_step, arch=ARCH, objective=OBJECTIVE, optimizer=OPTIMIZER,
        clock=lambda step: Time(step, 1.0), **options,
    )  # fmt: skip
    return jax.jit(step)(state, data)


@pytest.mark.slow
def test_microbatches_give_the_whole_batchs_gradient(state):
    data = batch("consistent")
    whole, metrics = update(state, data)
    parts, split_metrics = update(state, data, microbatches=2)
    for name in ("loss", "recon", "grad_norm"):
        np.testing.assert_allclose(metrics[name], split_metrics[name], rtol=1e-5)
    # Adam divides by the gradient's size, so tiny differences show where gradients vanish.
    close = functools.partial(np.testing.assert_allclose, atol=1e-4)
    jax.tree.map(close, whole["params"], parts["params"])


@pytest.mark.slow
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(state):
    data = batch("consistent")
    data["clip"] = np.full(data["clip"].shape, np.nan, np.float32)
    before = state | {"ema": jax.tree.map(lambda x: x + 1, state["params"])}
    after, metrics = update(before, data, ema=0.99)
    jax.tree.map(np.testing.assert_array_equal, after["params"], state["params"])
    jax.tree.map(np.testing.assert_array_equal, after["opt_state"], state["opt_state"])
    jax.tree.map(np.testing.assert_array_equal, after["ema"], before["ema"])
    assert after["step"] == after["skipped"] == after["bad_in_a_row"] == metrics["skipped"] == 1
    good, _ = update(after, batch("consistent"), ema=0.99)
    assert good["bad_in_a_row"] == 0 and good["skipped"] == 1 and good["step"] == 2
    decay = 2 / 11  # (1 + 1) / (10 + 1): below 0.99 for the first thousand updates
    jax.tree.map(
        lambda average, old, new: np.testing.assert_allclose(
            average, decay * old + (1 - decay) * new, rtol=1e-5, atol=1e-6
        ),
        good["ema"], after["ema"], good["params"],
    )  # fmt: skip


def test_an_average_starts_as_the_parameters():
    start = jax.eval_shape(
        lambda key: init_state(ARCH, OBJECTIVE, OPTIMIZER, key, 0.9), jax.random.key(0)
    )
    assert jax.tree.structure(start["ema"]) == jax.tree.structure(start["params"])
    params = {"kernel": np.ones(3, np.float32)}
    kept = state_from_params(params, OBJECTIVE, OPTIMIZER, 0.9)
    np.testing.assert_array_equal(kept["ema"]["kernel"], 1)
    assert not {"ema", "own"} & state_from_params(params, OBJECTIVE, OPTIMIZER).keys()


def test_decay_spares_biases_and_norms_only(state):
    decayed = {
        jax.tree_util.keystr(path, simple=True, separator="/"): value
        for path, value in jax.tree.leaves_with_path(decay_mask(state["params"]))
    }
    assert decayed["encoder/cls_token"] and decayed["decoder/pos_spatial"]
    assert decayed["encoder/blocks/mlp/fc1/kernel"]
    spared = {name for name, value in decayed.items() if not value}
    assert spared == {name for name in decayed if name.endswith(("/bias", "/scale"))}
