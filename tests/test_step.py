"""One update: accumulation, skipping, and the same numbers on eight devices as on one."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from test_model import ARCH, batch

from echofm_jax.objective import Objective
from echofm_jax.optimizer import adamw, decay_mask
from echofm_jax.step import init_state, train_step

OPTIMIZER = adamw(lambda count: 1e-3, clip_norm=0.02, weight_decay=0.05)


@pytest.fixture(scope="module")
def state():
    return jax.jit(functools.partial(init_state, ARCH, OPTIMIZER))(jax.random.key(0))


def update(state, data, microbatches=1):
    step = functools.partial(
        train_step, arch=ARCH, objective=Objective(), optimizer=OPTIMIZER,
        microbatches=microbatches,
    )  # fmt: skip
    return jax.jit(step)(state, data)


def test_microbatches_give_the_whole_batchs_gradient(state):
    data = batch("consistent")
    whole, metrics = update(state, data)
    parts, split_metrics = update(state, data, microbatches=2)
    for name in ("loss", "recon", "grad_norm"):
        np.testing.assert_allclose(metrics[name], split_metrics[name], rtol=1e-5)
    # Adam divides by the gradient's size, so tiny differences show where gradients vanish.
    close = functools.partial(np.testing.assert_allclose, atol=1e-4)
    jax.tree.map(close, whole["params"], parts["params"])


def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(state):
    data = batch("consistent")
    data["clip"] = np.full(data["clip"].shape, np.nan, np.float32)
    after, metrics = update(state, data)
    jax.tree.map(np.testing.assert_array_equal, after["params"], state["params"])
    jax.tree.map(np.testing.assert_array_equal, after["opt_state"], state["opt_state"])
    assert after["step"] == after["skipped"] == after["bad_in_a_row"] == metrics["skipped"] == 1
    good, _ = update(after, batch("consistent"))
    assert good["bad_in_a_row"] == 0 and good["skipped"] == 1 and good["step"] == 2


def test_decay_spares_biases_and_norms_only(state):
    decayed = {
        jax.tree_util.keystr(path, simple=True, separator="/"): value
        for path, value in jax.tree.leaves_with_path(decay_mask(state["params"]))
    }
    assert decayed["encoder/cls_token"] and decayed["decoder/pos_spatial"]
    assert decayed["encoder/blocks/mlp/fc1/kernel"]
    spared = {name for name, value in decayed.items() if not value}
    assert spared == {name for name in decayed if name.endswith(("/bias", "/scale"))}


EIGHT = """
import functools, jax, numpy as np, sys
from test_model import ARCH, batch
from test_step import OPTIMIZER
from echofm_jax.objective import Objective
from echofm_jax.sharding import make_mesh, place_batch
from echofm_jax.step import abstract_state, init_state, train_step
assert jax.device_count() == 8
rng = np.random.default_rng(1)
data = {k: rng.permutation(np.concatenate([v] * 4).ravel()).reshape(8, *v.shape[1:])
        for k, v in batch("consistent").items()}
key = jax.random.key(0)
step = functools.partial(train_step, arch=ARCH, objective=Objective(), optimizer=OPTIMIZER)
one, expected = jax.jit(step)(jax.jit(functools.partial(init_state, ARCH, OPTIMIZER))(key), data)
for preset, fsdp in (("dp", 1), ("fsdp", 4)):
    mesh = make_mesh(fsdp=fsdp)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(ARCH, OPTIMIZER, mesh, preset))
    state = jax.jit(functools.partial(init_state, ARCH, OPTIMIZER), out_shardings=shardings)(key)
    kernel = state["opt_state"][1].mu["encoder"]["blocks"]["mlp"]["fc1"]["kernel"]
    assert kernel.addressable_shards[0].data.shape[1] == 32 // fsdp
    new, found = jax.jit(step, out_shardings=(shardings, None))(state, place_batch(data, mesh))
    for name in ("loss", "recon", "triplet", "cycle", "grad_norm"):
        assert abs(found[name] - expected[name]) <= 1e-5 * abs(expected[name]), (preset, name)
    mu = lambda s: jax.tree.leaves(s["opt_state"][1].mu)
    a, b = (np.concatenate([np.ravel(x) for x in mu(s)]) for s in (new, one))
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b), preset
print("ok")
"""


def test_eight_devices_give_one_devices_loss_and_gradients():
    env = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    result = subprocess.run(
        [sys.executable, "-c", EIGHT], env=env, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "ok", result.stderr
