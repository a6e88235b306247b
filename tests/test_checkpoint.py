"""Checkpoints on a real disk: what is kept, what is read back, and what damage does."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echofm_jax.checkpoint import Checkpoints, fingerprint, load_params
from echofm_jax.errors import InputError


def state_at(step: int) -> dict:
    """A small state whose arrays tell the step."""
    kernel = jax.random.normal(jax.random.key(step), (64, 64))
    return {
        "params": {"encoder": {"kernel": kernel, "bias": jnp.full(64, step, jnp.float32)}},
        "opt_state": [{"mu": kernel.astype(jnp.bfloat16)}],
        "step": jnp.int32(step),
    }


def abstract(state: dict) -> dict:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def write(workdir: Path, steps, *, every=1, keep=3, force=()) -> list[int]:
    """Call save after each step; returns the steps that it saved."""
    checkpoints = Checkpoints(workdir, every=every, keep=keep)
    saved = [
        step
        for step in steps
        if checkpoints.save(step, state_at(step), {"next": step + 1}, force=step in force)
    ]
    checkpoints.finish()
    return saved


def kept(workdir: Path) -> list[str]:
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def damage(workdir: Path, step: int) -> None:
    """Flip one byte in the middle of the largest file of arrays."""
    folder = workdir / "checkpoints" / str(step) / "state"
    arrays = [path for path in folder.rglob("d/*") if path.is_file()]
    largest = max(arrays, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 255
    largest.write_bytes(data)


def restore(workdir: Path):
    checkpoints = Checkpoints(workdir, every=1, keep=3)
    found = checkpoints.restore(abstract(state_at(0)))
    checkpoints.finish()
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("three")
    write(workdir, (1, 2, 3))
    return workdir


@pytest.fixture
def workdir(three, tmp_path) -> Path:
    return shutil.copytree(three, tmp_path / "copy")


def test_every_nth_step_is_saved_and_the_last_few_are_kept(tmp_path):
    saved = write(tmp_path, range(1, 12), every=3, keep=2, force=(11,))
    assert saved == [3, 6, 9, 11]
    assert kept(tmp_path) == ["11", "9"]


def test_the_newest_is_restored_with_the_loaders_position(three):
    state, position = restore(three)
    assert position == {"next": 4}
    jax.tree.map(np.testing.assert_array_equal, state, state_at(3))
    assert state["opt_state"][0]["mu"].dtype == jnp.bfloat16


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path) is None


def test_a_damaged_checkpoint_is_set_aside(workdir, caplog):
    damage(workdir, 3)
    state, position = restore(workdir)
    assert state["step"] == 2 and position == {"next": 3}
    assert kept(workdir) == ["1", "2", "damaged-3"]
    assert "checkpoint 3 is damaged" in caplog.text and "kept as damaged-3" in caplog.text


def test_a_step_that_is_damaged_twice_keeps_both(workdir):
    damage(workdir, 3)
    restore(workdir)
    write(workdir, (3,))
    damage(workdir, 3)
    state, _ = restore(workdir)
    assert state["step"] == 2
    assert kept(workdir) == ["1", "2", "damaged-3", "damaged-3-again"]


@pytest.mark.parametrize("what", ["arrays gone", "position gone", "arrays exchanged"])
def test_other_damage(what, workdir):
    newest = workdir / "checkpoints" / "3"
    if what == "arrays gone":
        shutil.rmtree(newest / "state")
    elif what == "position gone":
        shutil.rmtree(newest / "data")
    else:  # a state that reads well, but not the one that was saved
        shutil.rmtree(newest / "state")
        shutil.copytree(workdir / "checkpoints" / "2" / "state", newest / "state")
    state, position = restore(workdir)
    assert state["step"] == 2 and position == {"next": 3}


def test_when_none_can_be_read_none_is_set_aside_and_no_run_starts_afresh(workdir):
    for step in (1, 2, 3):
        damage(workdir, step)
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read \(step 3: "):
        restore(workdir)
    assert kept(workdir) == ["1", "2", "3"]


@pytest.mark.parametrize(("wanted", "step"), [(None, 3), (1, 1), (3, 3)])
def test_parameters_alone(three, wanted, step):
    params, found = load_params(three, wanted)
    assert found == step
    assert all(type(x) is np.ndarray for x in jax.tree.leaves(params))
    jax.tree.map(np.testing.assert_array_equal, params, state_at(step)["params"])


def test_where_an_average_is_kept_it_is_what_is_read(tmp_path):
    state = state_at(1)
    average = jax.tree.map(lambda x: x + 1, state["params"])
    checkpoints = Checkpoints(tmp_path, every=1, keep=1)
    checkpoints.save(1, state | {"ema": average}, {})
    checkpoints.finish()
    params, _ = load_params(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, average)


def test_a_wrong_step_lists_those_there_are(three):
    with pytest.raises(InputError, match=r"no checkpoint of step 5 in .*: there are \[1, 2, 3\]"):
        load_params(three, 5)


def test_parameters_of_a_damaged_checkpoint_are_passed_over_and_left(workdir, caplog):
    damage(workdir, 3)
    with caplog.at_level(logging.WARNING):
        params, step = load_params(workdir)
    assert step == 2 and params["encoder"]["bias"][0] == 2
    assert "checkpoint 3 is damaged" in caplog.text
    assert kept(workdir) == ["1", "2", "3"]  # reading changes nothing
    with pytest.raises(InputError, match="no whole checkpoint"):
        load_params(workdir, 3)


def test_a_workdir_without_checkpoints_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no whole checkpoint in .*: train first, or import"):
        load_params(tmp_path)


def test_a_fingerprint_changes_with_any_bit_and_names_the_array():
    before = fingerprint(state_at(1))
    assert list(before) == [
        "opt_state/0/mu", "params/encoder/bias", "params/encoder/kernel", "step",
    ]  # fmt: skip
    changed = state_at(1)
    bits = np.array(changed["params"]["encoder"]["kernel"]).view(np.uint32)
    bits[7, 9] ^= 1  # the last bit of one number
    changed["params"]["encoder"]["kernel"] = jnp.asarray(bits.view(np.float32))
    after = fingerprint(changed)
    assert {name for name in before if before[name] != after[name]} == {"params/encoder/kernel"}


MESHES = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from test_checkpoint import Checkpoints, Path, abstract, fingerprint, state_at
import sys, tempfile
assert jax.device_count() == 4
mesh = jax.make_mesh((2, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
place = lambda spec: jax.tree.map(
    lambda x: jax.device_put(x, NamedSharding(mesh, spec if x.ndim else P())), state_at(1))
split, whole = place(P("fsdp")), place(P())
assert split["params"]["encoder"]["kernel"].addressable_shards[0].data.shape == (32, 64)
assert fingerprint(split) == fingerprint(whole) == fingerprint(state_at(1))
# Saved from one mesh, restored onto another.
folder = Path(sys.argv[1])
checkpoints = Checkpoints(folder, every=1, keep=1)
checkpoints.save(1, split, {})
checkpoints.finish()
state, _ = Checkpoints(folder, every=1, keep=1).restore(abstract(place(P("data"))))
jax.tree.map(np.testing.assert_array_equal, state, whole)
assert state["params"]["encoder"]["kernel"].sharding.spec == P("data")
print("ok")
"""


def test_a_fingerprint_does_not_depend_on_the_mesh(tmp_path):
    env = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    result = subprocess.run(
        [sys.executable, "-c", MESHES, str(tmp_path)], env=env, capture_output=True, text=True
    )
    assert result.stdout.strip() == "ok", result.stderr
    params, _ = load_params(tmp_path)  # and read on one device
    jax.tree.map(np.testing.assert_array_equal, params, state_at(1)["params"])
