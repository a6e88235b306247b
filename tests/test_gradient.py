"""Eight devices in every preset: one device's loss and gradients, whole batches and in parts."""

import os
import subprocess
import sys
from pathlib import Path

EIGHT = """
import functools, jax, numpy as np
from test_model import ARCH, batch
from echofm_jax.gradient import Exchange, accumulate
from echofm_jax.model import init_params
from echofm_jax.objectives.echofm import EchoFMObjective, loss_and_metrics
from echofm_jax.sharding import make_mesh, place_batch, state_shardings
assert jax.device_count() == 8
rng = np.random.default_rng(1)
data = {k: rng.permutation(np.concatenate([v] * 8).ravel()).reshape(16, *v.shape[1:])
        for k, v in batch("consistent").items()}
flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
params = jax.jit(init_params, static_argnums=0)(ARCH, jax.random.key(0))
loss_fns, expected = {}, {}
for gate in (0.0, 0.1):  # a gate gives each clip a weight of its own
    own = functools.partial(loss_and_metrics, arch=ARCH, objective=EchoFMObjective(cycle_gate=gate))
    loss_fns[gate] = lambda params, batch, kept, at_use, own=own: own(params, batch, at_use=at_use)
    one = jax.jit(functools.partial(accumulate, own, microbatches=1))
    halves = [one(params, {k: v[i::2] for k, v in data.items()}) for i in (0, 1)]
    expected[gate, 1] = one(params, data)
    expected[gate, 2] = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
assert 0.05 < expected[0.1, 1][1]["gate"] < 0.95, expected[0.1, 1][1]
for preset, microbatches, axes, gate in (
    ("dp", 1, {"slices": 2}, 0.0), ("dp", 2, {}, 0.1), ("fsdp", 1, {"slices": 2, "fsdp": 2}, 0.1),
    ("fsdp", 2, {"fsdp": 4}, 0.0), ("fsdp", 1, {"fsdp": 8}, 0.0),
    ("fsdp_tp", 1, {"slices": 2, "fsdp": 2, "tensor": 2}, 0.1),
    ("fsdp_tp", 2, {"fsdp": 2, "tensor": 2}, 0.0),
):
    loss_fn = loss_fns[gate]
    mesh = make_mesh(**axes)
    shardings = state_shardings(params, mesh, preset)
    placed = jax.tree.map(jax.device_put, params, shardings)
    kernel = placed["encoder"]["blocks"]["mlp"]["fc1"]["kernel"]
    here = kernel.addressable_shards[0].data.shape
    assert here == (2, 32 // axes.get("fsdp", 1), 128 // axes.get("tensor", 1)), here
    exchange = Exchange(mesh=mesh, preset=preset, compute_dtype="float32",
                        reduce_dtype="float32", microbatches=microbatches)
    gradient = jax.jit(functools.partial(exchange.gradient, loss_fn))
    grads, metrics = gradient(placed, place_batch(data, mesh), {})
    losses = jax.jit(functools.partial(exchange.metrics, loss_fn))
    seen = losses(placed, place_batch(data, mesh), {})
    assert all(np.allclose(seen[k], metrics[k], rtol=1e-6) for k in metrics), (seen, metrics)
    same = jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), grads, shardings)
    assert all(jax.tree.leaves(same)), preset
    known, terms = expected[gate, microbatches]
    for name in terms:
        np.testing.assert_allclose(metrics[name], terms[name], rtol=1e-5, err_msg=preset + name)
    a, b = flat(grads), flat(known)
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b), (preset, microbatches, gate)
print("ok")
"""


def test_every_preset_gives_one_devices_loss_and_gradients():
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
