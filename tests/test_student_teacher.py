"""Self-distillation over eight devices is that of one device; its losses' own identities."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echofm_jax.dino_head import init_head
from echofm_jax.dinov2_losses import koleo, masked_patches, sinkhorn
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.image_model import init_params
from echofm_jax.student_teacher import student_teacher_losses

ARCH = ImageArchitecture(
    width=32, depth=2, heads=4, patch=8, size=32, registers=1, ffn="swiglu", layer_scale=0.5,
    drop_path=0.1,  # an image with no attention left is any other image: KoLeo would tear at them
)  # fmt: skip
MOST = 9  # masked patches of any image
CENTERS = {"dino_center": np.linspace(-0.1, 0.1, 24), "ibot_center": np.linspace(0.2, 0, 24)}


def networks(seed: int) -> dict:
    """A student or a teacher; noise moves images apart that fresh parameters hardly tell apart."""
    keys = jax.random.split(jax.random.key(seed), 3)
    rng = np.random.default_rng(seed)
    fresh = {
        "backbone": init_params(ARCH, keys[0]),
        "dino_head": init_head(32, 16, 8, 24, keys[1]),
        "ibot_head": init_head(32, 16, 8, 24, keys[2]),
    }
    return jax.tree.map(lambda x: x + rng.normal(0, 0.2, x.shape).astype(np.float32), fresh)


def batch(images: int = 16) -> dict:
    rng = np.random.default_rng(0)
    mask = np.zeros((images, 2, ARCH.positions), bool)
    for i in range(images):  # every number of masked patches, none and the most among them
        mask[i, i % 2, rng.permutation(ARCH.positions)[: i % (MOST + 1)]] = True
    return {
        "global": rng.normal(size=(images, 2, 32, 32, 3)).astype(np.float32),
        "local": rng.normal(size=(images, 3, 16, 16, 3)).astype(np.float32),
        "mask": mask,
        "seed": rng.integers(0, 2**32, images, np.uint32),
    }


def loss_and_metrics(params: dict, data: dict, centering: str, most: int = MOST, at_use=None):
    loss, terms, seen = student_teacher_losses(
        params["student"], params["teacher"], data, ARCH, centers=CENTERS, centering=centering,
        most_masked=most, teacher_temperature=0.05, at_use=at_use,
    )  # fmt: skip
    return loss, terms | seen | {"loss": loss}


EIGHT = """
import functools, jax, numpy as np
from test_student_teacher import batch, loss_and_metrics, networks
from echofm_jax.gradient import Exchange, accumulate
from echofm_jax.sharding import make_mesh, place_batch, state_shardings
assert jax.device_count() == 8
data, student, kept = batch(), networks(0), {"teacher": networks(1)}
flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
def of(centering):
    def fn(student, data, kept, at_use=None):
        return loss_and_metrics({"student": student, **kept}, data, centering, at_use=at_use)
    return fn
def alone(centering):
    fn = lambda student, data: of(centering)(student, data, kept)
    return jax.jit(functools.partial(accumulate, fn, microbatches=1))
one = {name: alone(name) for name in ("sinkhorn_knopp", "centering")}
for centering, preset, microbatches, axes in (
    ("sinkhorn_knopp", "dp", 1, {"slices": 2}), ("centering", "fsdp", 1, {"fsdp": 4}),
    ("sinkhorn_knopp", "fsdp_tp", 2, {"fsdp": 2, "tensor": 2}),
):
    halves = [one[centering](student, {k: v[i::microbatches] for k, v in data.items()})
              for i in range(microbatches)]
    known, terms = jax.tree.map(lambda *x: sum(x) / microbatches, *halves)
    mesh = make_mesh(**axes)
    placed, beside = (jax.tree.map(jax.device_put, x, state_shardings(x, mesh, preset))
                      for x in (student, kept))
    kernel = beside["teacher"]["backbone"]["blocks"]["mlp"]["fc2"]["kernel"]
    parts = axes.get("fsdp", 1) * axes.get("tensor", 1)
    assert kernel.addressable_shards[0].data.size * parts == kernel.size  # the teacher's, too
    exchange = Exchange(mesh=mesh, preset=preset, compute_dtype="float32",
                        reduce_dtype="float32", microbatches=microbatches)
    gradient = jax.jit(functools.partial(exchange.gradient, of(centering)))
    grads, metrics = gradient(placed, place_batch(data, mesh), beside)
    assert metrics.keys() == terms.keys()
    for name in terms:
        np.testing.assert_allclose(metrics[name], terms[name], rtol=1e-5, atol=1e-7,
                                   err_msg=preset + name)
    a, b = flat(grads), flat(known)
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b), (preset, centering)
print("ok")
"""


def test_eight_devices_give_one_devices_losses_centres_and_gradients():
    env = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
        " --xla_cpu_use_fusion_emitters=false",  # compiles in half the time
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    result = subprocess.run(
        [sys.executable, "-c", EIGHT], env=env, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "ok", result.stderr


def test_padding_of_the_masked_patches_changes_nothing():
    data, params = batch(4), {"student": networks(0), "teacher": networks(1)}
    loss = jax.jit(loss_and_metrics, static_argnums=(2, 3))
    losses = [loss(params, data, "sinkhorn_knopp", most)[1]["ibot"] for most in (3, MOST)]
    assert data["mask"].sum((1, 2)).max() == 3
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_masked_patches_are_listed_with_their_crops_weight():
    mask = np.zeros((2, 2, 4), bool)
    mask[0, 0, [1, 3]] = mask[0, 1, 2] = True
    index, weight = masked_patches(jnp.asarray(mask), 4)
    np.testing.assert_array_equal(index[0, :3], [1, 3, 6])
    np.testing.assert_allclose(weight, [[0.5, 0.5, 1, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("scale", [1, 400])
def test_sinkhorn_shares_prototypes_out_and_stays_finite(scale):
    logits = scale * jax.random.normal(jax.random.key(0), (12, 6))
    valid = jnp.arange(12) < 9
    targets = np.asarray(sinkhorn(logits, 1.0, valid, iterations=200 if scale == 1 else 3))
    assert np.isfinite(targets).all()
    np.testing.assert_allclose(targets.sum(1), valid, rtol=1e-5)
    if scale == 1:
        np.testing.assert_allclose(targets.sum(0), 9 / 6, rtol=1e-4)


def test_koleo_falls_as_images_move_apart():
    near = jnp.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.2]])
    apart = jnp.array([[1.0, 0.0], [-0.5, 0.87], [-0.5, -0.87]])
    assert koleo(apart) < koleo(near)
    push = -jax.grad(koleo)(near)
    assert push[1, 1] > 0 and push[2, 1] < 0  # away from the first, which is nearest to both


def test_drop_path_and_shared_heads():
    data, params = batch(4), {"student": networks(0), "teacher": networks(1)}
    loss = jax.jit(loss_and_metrics, static_argnums=2)
    a, b = (loss(params, data | {"seed": data["seed"] + i}, "centering")[1] for i in (0, 1))
    assert a["dino_local"] != b["dino_local"] and a["dino_global"] != b["dino_global"]
    shared = {
        name: {key: x for key, x in own.items() if key != "ibot_head"}
        for name, own in params.items()
    }
    c = loss(shared, data, "centering")[1]
    assert c["ibot"] != a["ibot"] and c["dino_global"] == a["dino_global"]
    without = loss(params, data | {"local": data["local"][:, :0]}, "centering")[1]
    assert without["dino_local"] == 0
    # Without local crops there are 2 + 1 terms to share between, with three of them 2 + 6.
    np.testing.assert_allclose(without["dino_global"] * 3, a["dino_global"] * 8, rtol=0.1)
