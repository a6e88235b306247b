"""The sharding table: every parameter of every model and preset, without allocating one."""

import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import REPO
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from echofm_jax import config, sharding
from echofm_jax.architecture import Architecture
from echofm_jax.errors import InputError
from echofm_jax.objectives.echofm import EchoFMObjective
from echofm_jax.optimizer import adamw
from echofm_jax.step import abstract_state

MESH = AbstractMesh((1, 2, 4, 2), sharding.AXES)
OPTIMIZER = adamw(lambda count: 1e-3, clip_norm=0.02, weight_decay=0.05)
# Megatron's split over `tensor`; `fsdp` splits rows, and columns where `tensor` has the rows.
# Biases of split outputs go with them; everything else is whole.
COLUMN, ROW = ("fsdp", "tensor"), ("tensor", "fsdp")
BLOCK = {
    "attn/query": COLUMN, "attn/key": COLUMN, "attn/value": COLUMN, "attn/out": ROW,
    "mlp/fc1": COLUMN, "mlp/fc2": ROW,
}  # fmt: skip
PARTS = {"encoder/blocks": (None,), "decoder/blocks": (None,), "projector/block": ()}
FSDP_TP = {
    f"{part}/{name}/kernel": P(*layers, *spec)
    for part, layers in PARTS.items()
    for name, spec in BLOCK.items()
} | {
    f"{part}/{name}/bias": P(*layers, "tensor")
    for part, layers in PARTS.items()
    for name, spec in BLOCK.items()
    if spec == COLUMN
}
FSDP = {
    f"{part}/{name}/kernel": P(*layers, "fsdp", None)
    for part, layers in PARTS.items()
    for name in BLOCK
}


def specs(tree) -> dict[str, P]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.sharding.spec
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def abstract(model: str, preset: str, mesh=MESH):
    arch = Architecture(**config.MODELS[model])
    return abstract_state(arch, EchoFMObjective(), OPTIMIZER, mesh, preset, ema=0.99)


@pytest.mark.parametrize(("preset", "split"), [("fsdp", FSDP), ("fsdp_tp", FSDP_TP)])
@pytest.mark.parametrize("model", config.MODELS)
def test_every_parameter_moment_and_average(model, preset, split):
    state = abstract(model, preset)
    moments = state["opt_state"][1]
    for tree in (state["params"], state["ema"], moments.mu, moments.nu):
        found = specs(tree)
        assert set(split) <= set(found)
        whole = lambda spec: all(axis is None for axis in spec)  # noqa: E731
        for name, spec in found.items():
            assert spec == split[name] if name in split else whole(spec), name
    assert state["step"].sharding.spec == moments.count.sharding.spec == P()


@pytest.mark.parametrize(("preset", "devices"), [("dp", 1), ("fsdp", 4), ("fsdp_tp", 8)])
def test_each_device_keeps_its_share(preset, devices):
    leaves = jax.tree.leaves(abstract("vit_l", preset)["params"])
    whole = sum(np.prod(leaf.shape) for leaf in leaves)
    here = sum(np.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    rest = 5e6 * (devices > 1)  # embeddings, biases and norms are small, and whole everywhere
    assert whole / devices <= here <= whole / devices + rest


def test_dp_splits_nothing_but_the_batch():
    assert not any(axis for spec in specs(abstract("vit_l", "dp")).values() for axis in spec)
    assert P(("slice", "data", "fsdp")) == sharding.BATCH


def test_shapes_are_those_of_the_model():
    params = abstract("vit_l", "fsdp")["params"]
    assert params["encoder"]["blocks"]["mlp"]["fc1"]["kernel"].shape == (24, 1024, 4096)
    assert params["decoder"]["pred"]["kernel"].shape == (512, 4 * 16 * 16 // 4 * 3)


@pytest.mark.parametrize(
    ("preset", "shape", "said"),
    [
        ("fsdp", (1, 1, 3, 1), r"mesh\.fsdp=3 does not divide .*/kernel \[.*\]"),
        ("fsdp_tp", (1, 1, 1, 3), r"mesh\.tensor=3 does not divide .*/bias \[.*\]"),
    ],
)
def test_a_parameter_that_cannot_be_split_is_named(preset, shape, said):
    mesh = AbstractMesh(shape, sharding.AXES)
    with pytest.raises(InputError, match=said):
        abstract("vit_l", preset, mesh)
    abstract("vit_l", "dp", mesh)  # nothing is split there


def test_the_mesh_holds_every_device():
    mesh = sharding.make_mesh()
    assert mesh.axis_names == sharding.AXES and mesh.size == jax.device_count()


@pytest.mark.parametrize("axes", [{"fsdp": 3}, {"slices": 2, "tensor": 8}, {"tensor": 3}])
def test_axes_that_do_not_multiply_to_the_devices_are_refused(axes):
    with pytest.raises(InputError, match="does not divide the 8 devices: change one of them"):
        sharding.make_mesh(**axes, devices=list(range(8)))


def test_devices_of_other_slices_are_refused():
    chips = [SimpleNamespace(platform="tpu", slice_index=i // 4) for i in range(8)]
    with pytest.raises(InputError, match=r"mesh\.slices=1, but the devices are of 2"):
        sharding.make_mesh(devices=chips)


@pytest.mark.parametrize(("batch", "parts"), [(12, 1), (8, 2), (4, 1)])
def test_a_batch_that_cannot_be_shared_is_refused(batch, parts):
    said = rf"data\.batch_size={batch} in optim\.accumulate={parts} parts is not .* the 8 devices"
    with pytest.raises(InputError, match=said):
        sharding.check_batch(batch, parts, MESH)
    sharding.check_batch(16, 2, MESH)


def test_a_batch_is_placed_whole():
    mesh = sharding.make_mesh()
    batch = {"clip": np.arange(8, dtype=np.uint8).reshape(4, 2)}
    placed = sharding.place_batch(batch, mesh)["clip"]
    assert placed.sharding.spec == sharding.BATCH
    np.testing.assert_array_equal(placed, batch["clip"])


HOSTS = """
from jax.experimental import topologies
from echofm_jax import sharding
devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4").devices
for tensor in (1, 2, 4, 16):
    mesh = sharding.make_mesh(tensor=tensor, devices=devices)
    print(*sharding.batch_share(16, mesh))
"""


def test_hosts_whose_chips_hold_the_same_clips_load_the_same():
    """Four hosts of 2×2 chips: four on `tensor` are a row of the torus, so a row of hosts."""
    env = os.environ | {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    result = subprocess.run(
        [sys.executable, "-c", HOSTS], env=env, cwd=REPO, capture_output=True, text=True
    )
    assert result.stdout.splitlines() == ["0 4", "0 4", "0 2", "0 1"], result.stderr


def test_one_process_loads_every_clip():
    assert sharding.batch_share(16, sharding.make_mesh()) == (0, 1)
