"""The sharding table: every parameter of ViT-L in every preset, without allocating one."""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from echofm_jax import config, sharding
from echofm_jax.architecture import Architecture
from echofm_jax.errors import InputError
from echofm_jax.optimizer import adamw
from echofm_jax.step import abstract_state

MESH = AbstractMesh((1, 2, 4, 1), sharding.AXES)
OPTIMIZER = adamw(lambda count: 1e-3, clip_norm=0.02, weight_decay=0.05)
# Every kernel is split along the width that it shares with the residual stream; the layer axis
# of stacked blocks never is, and neither is anything but kernels.
ROWS, COLUMNS = ("fsdp", None), (None, "fsdp")
BLOCK = {
    "attn/query": ROWS, "attn/key": ROWS, "attn/value": ROWS, "attn/out": COLUMNS,
    "mlp/fc1": ROWS, "mlp/fc2": COLUMNS,
}  # fmt: skip
FSDP = {
    f"{part}/{name}/kernel": P(*layers, *spec)
    for part, layers in (
        ("encoder/blocks", (None,)), ("decoder/blocks", (None,)), ("projector/block", ()),
    )
    for name, spec in BLOCK.items()
} | {
    "encoder/patch_embed/kernel": P("fsdp", None, None),
    "decoder/embed/kernel": P("fsdp", None),
    "decoder/pred/kernel": P("fsdp", None),
}  # fmt: skip


def specs(tree) -> dict[str, P]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.sharding.spec
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def vit_l(preset: str, mesh=MESH):
    return abstract_state(Architecture(**config.MODELS["vit_l"]), OPTIMIZER, mesh, preset)


def test_fsdp_splits_every_kernel_and_its_moments():
    state = vit_l("fsdp")
    moments = state["opt_state"][1]
    for tree in (state["params"], moments.mu, moments.nu):
        found = specs(tree)
        assert {name for name in found if name.endswith("kernel")} == set(FSDP)
        assert found == {name: FSDP.get(name, P()) for name in found}
    assert state["step"].sharding.spec == moments.count.sharding.spec == P()


def test_fsdp_leaves_each_device_its_share():
    leaves = jax.tree.leaves(vit_l("fsdp")["params"])
    whole = sum(np.prod(leaf.shape) for leaf in leaves)
    here = sum(np.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    assert here == pytest.approx(whole / MESH.shape["fsdp"], rel=0.01)


def test_dp_splits_nothing_but_the_batch():
    assert not any(axis for spec in specs(vit_l("dp")).values() for axis in spec)
    assert P(("slice", "data", "fsdp")) == sharding.BATCH


def test_shapes_are_those_of_the_model():
    params = vit_l("fsdp")["params"]
    assert params["encoder"]["blocks"]["mlp"]["fc1"]["kernel"].shape == (24, 1024, 4096)
    assert params["decoder"]["pred"]["kernel"].shape == (512, 4 * 16 * 16 // 4 * 3)


def test_a_width_that_cannot_be_split_is_named():
    with pytest.raises(InputError, match=r"mesh\.fsdp=3 does not divide .*/kernel \[.*\]"):
        vit_l("fsdp", AbstractMesh((1, 1, 3, 1), sharding.AXES))
    vit_l("dp", AbstractMesh((1, 1, 3, 1), sharding.AXES))  # nothing is split there


def test_the_mesh_holds_every_device():
    mesh = sharding.make_mesh()
    assert mesh.axis_names == sharding.AXES and mesh.size == jax.device_count()


def test_a_mesh_that_does_not_fit_is_refused():
    devices = jax.device_count()
    with pytest.raises(InputError, match=rf"fsdp={devices + 1} × .*divide the {devices} dev"):
        sharding.make_mesh(fsdp=devices + 1)


def test_a_batch_is_placed_whole():
    mesh = sharding.make_mesh()
    batch = {"clip": np.arange(8, dtype=np.uint8).reshape(4, 2)}
    placed = sharding.place_batch(batch, mesh)["clip"]
    assert placed.sharding.spec == sharding.BATCH
    np.testing.assert_array_equal(placed, batch["clip"])
