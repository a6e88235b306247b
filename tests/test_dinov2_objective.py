"""DINOv2 as the loop sees it: schedules, teacher, rates, batches, and a run that is killed."""

import dataclasses
import functools
import json
import signal
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import REPO
from test_train import COMMAND, checkpoints, wait_for

import echofm_jax
from data_pipelines.loader import make_loader
from echofm_jax import cli, config
from echofm_jax.checkpoint import Checkpoints, load_params
from echofm_jax.errors import InputError
from echofm_jax.metrics import read_metrics
from echofm_jax.objectives import Time
from echofm_jax.objectives.dinov2 import DINOv2Objective
from echofm_jax.optimizer import adamw
from echofm_jax.perf import image_step_flops
from echofm_jax.program import build, optimizer_of
from echofm_jax.sharding import make_mesh
from echofm_jax.train import loader_config

TINY = {
    "model__size": 32, "model__patch": 8, "model__width": 32, "model__depth": 2, "model__heads": 2,
    "objective__local_size": 16, "objective__local_crops": 2, "objective__prototypes": 24,
    "objective__hidden": 16, "objective__bottleneck": 8, "data__batch_size": 4,
    "objective__mask_ratio": "(0.1,0.5)", "optim__steps": 8, "optim__epochs": 8.0,
    "optim__warmup_epochs": 1.0, "train__checkpoint_every": 3, "train__log_every": 1,
    "train__evaluate_every": 4, "data__workers": 1, "objective__layer_decay": 0.5,
}  # fmt: skip
SMOKE = REPO / "configs" / "echoapex_smoke.py"
TERMS = ("loss", "dino_global", "dino_local", "ibot", "koleo", "grad_norm")


def overrides(**changes) -> list[str]:
    values = (TINY | changes).items()
    return [f"--config.{name.replace('__', '.')}={value}" for name, value in values]


def settings(**changes):
    return config.parse(overrides(**changes), str(SMOKE))


def some_batch(objective, arch, seed: int = 0) -> dict:
    shapes = objective.batch(arch, 4, colour=False)
    rng = np.random.default_rng(seed)
    batch = {name: rng.integers(0, 255, x.shape).astype(x.dtype) for name, x in shapes.items()}
    batch["mask"] = np.zeros(shapes["mask"].shape, bool)
    batch["mask"][:, 0, :3] = True
    return batch


@pytest.fixture(scope="module")
def student():
    objective, arch = config.objective(settings()), config.architecture(settings())
    return jax.jit(objective.init_params, static_argnums=0)(arch, jax.random.key(0))


def test_the_teacher_follows_slower_and_slower(student):
    objective = DINOv2Objective(momentum=0.9, centering="centering", prototypes=3)
    own = objective.init_own(student)
    ahead = jax.tree.map(lambda x: x + 1, student)
    seen = {"dino_center": jnp.ones(3), "ibot_center": jnp.full(3, 2.0)}
    for epoch, moved in ((0.0, 0.1), (5.0, 0.05), (10.0, 0.0)):
        found = objective.after_update(own, ahead, seen, Time(jnp.array(epoch), 10.0))
        for t, s in zip(*map(jax.tree.leaves, (found["teacher"], student)), strict=True):
            np.testing.assert_allclose(t - s, moved, atol=1e-6)
        np.testing.assert_allclose(found["dino_center"], 0.1, rtol=1e-6)
        np.testing.assert_allclose(found["ibot_center"], 0.2, rtol=1e-6)


def test_the_teachers_temperature_warms_up():
    """Colder targets are sharper; what is lost says which there were."""
    given = settings(objective__warmup_teacher_temp_epochs=4.0, objective__teacher_temp=0.07)
    objective, arch = config.objective(given), config.architecture(given)
    params = objective.init_params(arch, jax.random.key(0))
    batch = some_batch(objective, arch)
    own = {"teacher": jax.tree.map(lambda x: 2 * x, params)}

    @functools.partial(jax.jit, static_argnums=1)
    def entropy(epoch, objective):
        time = Time(epoch, 8.0)
        return objective.loss(params, batch, arch=arch, own=own, at_use=None, time=time)[0]

    found = [float(entropy(epoch, objective)) for epoch in (0.0, 2.0, 4.0, 8.0)]
    assert found[2] == found[3] and len(set(found[:3])) == 3
    same = dataclasses.replace(objective, warmup_teacher_temp=0.07)
    assert float(entropy(0.0, same)) == pytest.approx(found[3], rel=1e-6)


def test_held_out_losses_are_without_drop_path(tiny_data):
    given = settings(model__drop_path=0.5, data__dir=str(tiny_data))
    program = build(given, make_mesh(), 12)
    state = program.init(jax.random.key(0))
    measure = program.lower_evaluation().compile()
    batch = some_batch(program.objective, program.arch)
    found = [
        float(measure(state, program.place(batch | {"seed": np.full(4, seed, np.uint32)}))["loss"])
        for seed in (1, 2)
    ]
    assert found[0] == found[1]


def test_nothing_may_be_masked(student):
    """An ablation without iBOT."""
    given = settings(objective__mask_ratio="(0.0,0.0)")
    objective, arch = config.objective(given), config.architecture(given)
    batch = some_batch(objective, arch)
    batch["mask"][:] = False
    loss = functools.partial(
        objective.loss, arch=arch, own=objective.init_own(student), at_use=None,
        time=Time(jnp.array(0.0), 8.0),
    )  # fmt: skip
    (total, terms), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(student, batch)
    assert np.isfinite(total) and terms["ibot"] == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def test_rates_fall_towards_the_image_and_prototypes_wait(student):
    given = settings()
    objective, arch = config.objective(given), config.architecture(given)
    of = objective.rates(arch)
    early, late = (of(student, Time(jnp.array(epoch), 8.0)) for epoch in (0.5, 1.0))
    backbone = late["backbone"]
    kernel = backbone["blocks"]["mlp"]["fc1"]["kernel"]
    assert kernel.shape == (2, 1, 1) and np.allclose(kernel.ravel(), [0.25, 0.5])
    assert np.allclose(backbone["blocks"]["scale1"].ravel(), [0.25, 0.5])
    assert backbone["norm"]["scale"] == 1 and late["dino_head"]["fc1"]["bias"] == 1
    assert backbone["cls_token"] == backbone["pos_spatial"] == 0.125
    assert np.allclose(backbone["patch_embed"]["kernel"], 0.125 * 0.2)
    assert (early["dino_head"]["last"]["kernel"], late["dino_head"]["last"]["kernel"]) == (0, 1)
    assert early["dino_head"]["fc3"]["kernel"] == 1


def test_an_update_is_multiplied_by_the_rate(student):
    rates = lambda params, count: jax.tree.map(lambda x: 0.5 * (count >= 1), params)  # noqa: E731
    plain, scaled = (
        adamw(lambda n: 0.1, clip_norm=1e9, weight_decay=lambda n: 0.1 * n, rates=r)
        for r in (None, rates)
    )
    params, states = {"kernel": jnp.ones(3)}, [plain.init({"kernel": jnp.ones(3)}),
                                               scaled.init({"kernel": jnp.ones(3)})]  # fmt: skip
    grads = {"kernel": jnp.array([1.0, -2.0, 3.0])}
    for factor in (0.0, 0.5, 0.5):
        a, states[0] = plain.update(grads, states[0], params)
        b, states[1] = scaled.update(grads, states[1], params)
        np.testing.assert_allclose(b["kernel"], factor * a["kernel"], rtol=1e-6)


def test_a_heads_large_gradient_leaves_the_backbones_alone(student):
    given = settings()
    optimizer = optimizer_of(given, config.recipe(given, 12))
    grads = jax.tree.map(jnp.zeros_like, student)
    grads["backbone"]["cls_token"] += 0.01
    grads["dino_head"]["fc1"]["bias"] += 1e6
    _, state = optimizer.update(grads, optimizer.init(student), student)
    mean = next(part for part in state if hasattr(part, "mu")).mu
    np.testing.assert_allclose(mean["backbone"]["cls_token"], 0.1 * 0.01, rtol=1e-5)
    norm = float(optax.tree.norm(mean["dino_head"]))
    assert norm == pytest.approx(0.1 * given.optim.clip_norm, rel=1e-4)


def test_the_loaders_batch_is_what_the_objective_reads(tiny_data):
    given = settings(data__dir=tiny_data)
    objective, arch = config.objective(given), config.architecture(given)
    batch = next(make_loader(loader_config(given)))
    for name, x in objective.batch(arch, 4, colour=False).items():
        assert (batch[name].shape, batch[name].dtype) == (x.shape, x.dtype), name


def test_flops_counted_by_hand():
    given = settings(objective__mask_ratio="(0.25,0.25)")
    objective, arch = config.objective(given), config.architecture(given)

    def backbone(patches, n):
        block = 4 * n * 32 * 32 + 2 * n * n * 32 + 2 * n * 32 * 128
        return 2 * (patches * 64 * 3 * 32 + 2 * block)

    head = 2 * (32 * 16 + 16 * 16 + 16 * 8 + 8 * 24)
    of_global = 2 * (backbone(16, 17) + head) + 4 * head  # a quarter of 16 patches of one crop
    of_local = 2 * (backbone(4, 5) + head)
    assert image_step_flops(arch, objective) == 3 * (of_global + of_local) + of_global


def start(workdir: Path, data: Path) -> subprocess.Popen:
    command = [*COMMAND, f"--config={SMOKE}", f"--workdir={workdir}",
               *overrides(data__dir=data)]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPO)


def rows(workdir: Path) -> dict[int, list[float]]:
    found = read_metrics(workdir / "metrics.jsonl")
    return {row["step"]: [row[name] for name in TERMS] for row in found if "loss" in row}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_data) -> Path:
    workdir = tmp_path_factory.mktemp("apex") / "run"
    process = start(workdir, tiny_data)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert all(name in errors for name in TERMS)
    return workdir


def test_after_kill_9_every_later_loss_is_the_same(trained, tiny_data, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir, tiny_data)
    wait_for(lambda: checkpoints(workdir), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = subprocess.run([*COMMAND, f"--workdir={workdir}"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert sorted(rows(workdir)) == list(range(1, 9))
    assert rows(workdir) == rows(trained)
    held_out = [row for row in read_metrics(workdir / "metrics.jsonl") if "val/loss" in row]
    assert [row["step"] for row in held_out][-1] == 8 and "val/seen" not in held_out[-1]


def test_the_teacher_is_what_is_read_of_a_run(trained):
    params, step = load_params(trained)
    assert step == 8 and params.keys() == {"backbone", "dino_head"}
    abstract = build(config.load(trained), make_mesh(), 12).state
    state, _ = Checkpoints(trained, every=1, keep=3).restore(abstract)
    for name, kept in (("teacher", state["own"]["teacher"]), ("student", state["params"])):
        same = all(jax.tree.leaves(jax.tree.map(np.array_equal, params, kept)))
        assert same == (name == "teacher")


def test_its_embeddings_are_those_of_the_exported_folder(trained, tmp_path):
    torch = pytest.importorskip("torch", reason="the exported folder is PyTorch's")
    from echofm_jax.pytorch import EchoApex

    model, folder = echofm_jax.load(str(trained)), tmp_path / "apex"
    assert cli.run("export", ["--workdir", str(trained), "--output", str(folder)]) == 0
    clips = np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32), np.uint8)
    ours, again = model.encode(clips), echofm_jax.load(str(folder)).encode(clips)
    theirs = EchoApex.from_pretrained(folder, frames=3)
    with torch.no_grad():
        pixels = torch.from_numpy(clips)[:, None].expand(-1, 3, -1, -1, -1) / 255
        found = theirs.encode(pixels)
    for name, shape in (("tokens", (2, 3 * 16, 32)), ("frames", (2, 3, 32)), ("video", (2, 32))):
        assert getattr(ours, name).shape == shape
        np.testing.assert_allclose(getattr(ours, name), getattr(again, name), atol=1e-6)
        np.testing.assert_allclose(getattr(ours, name), getattr(found, name), atol=1e-5)
    larger = echofm_jax.load(str(trained), size=48)
    assert larger.encode(np.zeros((1, 1, 48, 48), np.uint8)).tokens.shape == (1, 36, 32)
    with pytest.raises(InputError, match=r"this model reads .* H, W = 32, 32"):
        model.encode(np.zeros((1, 1, 48, 48), np.uint8))
    with pytest.raises(InputError, match="takes multiples of 8"):
        echofm_jax.load(str(trained), size=50)


def test_it_is_evaluated_as_any_model(trained, capsys):
    assert cli.run("evaluate", ["--workdir", str(trained), "--json", "--fit", "4"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["effective_rank_model"] > 1 and found["effective_rank_random"] > 1
    assert found["loss"] is None and found["psnr"] is None
