"""What the TPU compiler makes of a step: which collectives, over which axes, in which dtype."""

import jax
import numpy as np
import pytest
from conftest import REPO, overrides

from echofm_jax import program, sharding
from echofm_jax.config import parse
from echofm_jax.errors import InputError
from echofm_jax.planning import aot, topology
from echofm_jax.planning.collectives import collectives

SMALL = {  # widths of which every device's part fills whole tiles
    "model__width": 256, "model__decoder_width": 128, "model__depth": 3, "model__decoder_depth": 3,
    "model__dtype": "bfloat16",
}  # fmt: skip


def config(**changes):
    return parse(overrides(**SMALL | changes), str(REPO / "configs" / "smoke.py"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What is compiled here is not looked up elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def compiled(where: str, settings) -> tuple[dict, dict]:
    """{(kind, axes, dtypes): bytes a step} and the parameters of a step on a TPU topology."""
    pytest.importorskip("libtpu", reason=aot.REASON)
    target = topology.parse(where, 1)
    found = aot.compile_step(settings, target, train_records=1000, say=lambda text: None)
    sums: dict[tuple, int] = {}
    for c in collectives(found.module, found.mesh):
        key = c.kind, c.axes, c.dtypes
        sums[key] = sums.get(key, 0) + c.times * c.bytes
    params = program.build(settings, sharding.make_mesh(), 1000).state["params"]
    return sums, params


def count(params, kernels_only: bool = False) -> int:
    return sum(
        np.prod(x.shape)
        for path, x in jax.tree.leaves_with_path(params)
        if not kernels_only or ("block" in (name := sharding.path_name(path)) and "kernel" in name)
    )


def test_dp_sums_each_gradient_once_an_update_in_the_named_dtype():
    changes = {"optim__accumulate": 2, "optim__reduce_dtype": "bfloat16"}
    sums, params = compiled("v5e:2x2", config(data__batch_size=16, **changes))
    assert sums.pop(("all-reduce", ("data",), ("bf16",))) == 2 * count(params)
    assert all(size < 100 for size in sums.values()), sums  # the loss and its terms


def test_fsdp_gathers_kernels_and_scatters_their_gradients():
    settings = config(data__batch_size=16, mesh__preset="fsdp", mesh__fsdp=4)
    sums, params = compiled("v5e:2x4", settings)
    kernels = count(params, kernels_only=True)
    rest = count(params) - kernels
    assert sums.pop(("reduce-scatter", ("fsdp",), ("f32",))) == 4 * kernels
    assert sums.pop(("all-reduce", ("data",), ("f32",))) == 4 * kernels / 4  # each its own share
    whole = sums.pop(("all-reduce", ("data", "fsdp"), ("f32",)))
    assert whole == pytest.approx(4 * rest, rel=0.01)
    # In bfloat16, once for the forward pass and, but for what is kept, once for the backward.
    gathered = sums.pop(("all-gather", ("fsdp",), ("bf16",)))
    assert 2 * kernels < gathered <= 2 * 2 * kernels
    assert all(size < 100 for size in sums.values()), sums  # the gradient's norm


@pytest.mark.slow
def test_fsdp_over_all_chips_scatters_in_two_steps():
    """In one step the compiler sums whole gradients on every chip of such a slice."""
    settings = config(data__batch_size=16, mesh__preset="fsdp", mesh__fsdp=8)
    sums, params = compiled("v5p:2x2x2", settings)
    kernels = count(params, kernels_only=True)
    assert sums.pop(("reduce-scatter", ("fsdp",), ("f32",))) == 4 * kernels * (1 + 1 / 4)
    rest = sums.pop(("all-reduce", ("fsdp",), ("f32",)))
    assert rest == pytest.approx(4 * (count(params) - kernels), rel=0.01)


@pytest.mark.slow
def test_fsdp_scatters_gradients_that_the_compiler_would_rather_lay_transposed():
    changes = {"data.batch_size": 32, "mesh.preset": "fsdp", "mesh.fsdp": 8}
    changes |= {"model.depth": 2, "model.decoder_depth": 1}
    vit_h = parse([f"--config.{k}={v}" for k, v in changes.items()], str(REPO / "configs/vit_h.py"))
    sums, params = compiled("v5e:4x4", vit_h)
    kernels = count(params, kernels_only=True)
    scattered = sums[("reduce-scatter", ("fsdp",), ("f32",))]
    assert 4 * kernels <= scattered < 1.05 * 4 * kernels  # a share of 160 rows takes one tile more


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__batch_size": 3, "mesh__preset": "fsdp"}, "batch_size=3 .* the 2 devices"),
        ({"model__width": 254, "mesh__preset": "fsdp"}, r"fsdp=4 does not divide .* \[3, 254, 254"),
    ],
)
def test_what_the_mesh_does_not_divide_is_refused_before_anything_is_made(changes, said):
    shape = (1, 2, 1, 1) if "batch" in said else (1, 1, 4, 1)
    mesh = jax.sharding.AbstractMesh(shape, sharding.AXES)
    with pytest.raises(InputError, match=said):
        program.build(config(**{"data__batch_size": 4} | changes), mesh, 1000)
