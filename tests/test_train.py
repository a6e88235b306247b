"""Training as its users run it: a process that is killed, resumed, stopped, and misled."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import REPO, beating_disc, overrides

from data_pipelines import shards
from data_pipelines.loader import make_loader
from echofm_jax import cli
from echofm_jax.checkpoint import load_params
from echofm_jax.config import architecture, load, objective, recipe
from echofm_jax.errors import TryAgain
from echofm_jax.goodput import overall, read_runs
from echofm_jax.metrics import read_metrics
from echofm_jax.step import eval_step
from echofm_jax.train import loader_config

COMMAND = (sys.executable, "-W", "error", "-m", "echofm_jax", "train")
LOSSES = ("loss", "recon", "triplet", "cycle", "grad_norm")


def arguments(workdir: Path, data: Path, **changes) -> list[str]:
    config = f"--config={REPO / 'configs' / 'smoke.py'}"
    settings = {"data__dir": data, "optim__steps": 14, "train__checkpoint_every": 4} | changes
    return [config, f"--workdir={workdir}", *overrides(**settings)]


def start(workdir: Path, data: Path, **changes) -> subprocess.Popen:
    command = [*COMMAND, *arguments(workdir, data, **changes)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPO)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def losses(workdir: Path) -> dict[int, list[float]]:
    return {
        row["step"]: [row[name] for name in LOSSES]
        for row in read_metrics(workdir / "metrics.jsonl")
        if "loss" in row
    }


def checkpoints(workdir: Path) -> list[int]:
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tiny_data) -> Path:
    workdir = tmp_path_factory.mktemp("whole") / "run"
    process = start(workdir, tiny_data, train__evaluate_every=7)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    for shown in ("steps = ", "mesh 1 slice", "ETA", "clips/s", "MFU", "goodput", *LOSSES):
        assert shown in errors
    assert "no step for" not in errors
    return workdir


def test_held_out_losses_are_those_of_the_same_clips_at_every_look(uninterrupted, tiny_data):
    rows = {r["step"]: r for r in read_metrics(uninterrupted / "metrics.jsonl") if "val/loss" in r}
    assert list(rows) == [7, 14]
    assert rows[14]["val/loss"] < rows[7]["val/loss"]
    (run,) = read_runs(uninterrupted / "goodput.json")
    assert run["seconds"]["evaluation"] > 0
    config = load(uninterrupted)
    loader = make_loader(loader_config(config, split="val", seed=0))
    batch = {name: value for name, value in next(loader).items() if name in ("clip", "noise")}
    loader.close()
    method = {"arch": architecture(config), "objective": objective(config)}
    method["clock"] = recipe(config, 1).clock
    state = {"params": load_params(uninterrupted, 14)[0], "step": 14}
    for name, value in jax.jit(partial(eval_step, **method))(state, batch).items():
        assert rows[14][f"val/{name}"] == pytest.approx(float(value), rel=1e-5), name


def test_a_run_learns_and_describes_itself(uninterrupted):
    found = losses(uninterrupted)
    assert sorted(found) == list(range(1, 15))
    assert found[14][0] < found[1][0]
    assert load(uninterrupted).model.width == 32
    assert checkpoints(uninterrupted) == [8, 12, 14]
    assert list((uninterrupted / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    "moment",
    ["mid-save", *(pytest.param(m, marks=pytest.mark.slow) for m in ("first checkpoint", "late"))],
)
def test_after_kill_9_every_later_loss_is_the_same_bit_for_bit(
    moment, uninterrupted, tiny_data, tmp_path
):
    workdir, began = tmp_path / "run", time.monotonic()
    process = start(workdir, tiny_data)
    folder = workdir / "checkpoints"
    moments = {
        "first checkpoint": lambda: checkpoints(workdir) == [4],
        "mid-save": lambda: any("tmp" in p.name for p in folder.glob("*")),
        "late": lambda: 10 in losses(workdir),
    }
    wait_for(moments[moment], process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = subprocess.run(
        [*COMMAND, f"--workdir={workdir}"], capture_output=True, text=True, cwd=REPO
    )
    assert again.returncode == 0, again.stderr
    assert losses(workdir) == losses(uninterrupted)
    check_goodput(workdir, time.monotonic() - began, again.stderr)


def check_goodput(workdir: Path, passed: float, said: str) -> None:
    """Two runs' seconds by bucket: none counted twice, only interpreters' own not counted."""
    first, second = read_runs(workdir / "goodput.json")
    assert first["step"] > 0 and second["step"] == 14
    assert (first["finished"], second["finished"]) == (False, True)
    assert second["start"] in (0, 4, 8, 12)
    total = overall([first, second])
    ended = second["began"] + sum(second["seconds"].values())
    assert sum(total.values()) == pytest.approx(ended - first["began"], abs=0.01)
    assert passed - max(5, 0.3 * passed) < sum(total.values()) < passed
    assert total["down"] > 0
    assert (total["repeated"] > 0) == (first["step"] > second["start"])
    for bucket in ("init", "compile", "step", "checkpoint", "data_wait"):
        assert second["seconds"][bucket] > 0
    assert "all 2 runs: goodput" in said


def test_sigterm_saves_and_the_next_run_goes_on(uninterrupted, tiny_data, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir, tiny_data, train__checkpoint_every=100)
    wait_for(lambda: 3 in losses(workdir), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == TryAgain.status, errors
    (stopped,) = checkpoints(workdir)
    assert f"stopped at step {stopped}" in errors
    assert cli.main(["train", f"--workdir={workdir}"]) == 0
    assert losses(workdir) == losses(uninterrupted)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(uninterrupted, tmp_path, capfd):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    arrays = [p for p in (workdir / "checkpoints" / "14" / "state").rglob("d/*") if p.is_file()]
    largest = max(arrays, key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 255
    largest.write_bytes(data)
    assert cli.main(["train", f"--workdir={workdir}"]) == 0
    said = capfd.readouterr().err
    assert "checkpoint 14 is damaged" in said and "starting from step 12" in said
    assert losses(workdir) == losses(uninterrupted)
    assert (workdir / "checkpoints" / "damaged-14").is_dir()


def test_non_finite_steps_are_skipped_counted_and_stop_the_run(tiny_data, tmp_path, capsys):
    workdir = tmp_path / "run"
    status = cli.main(
        ["train", *arguments(workdir, tiny_data, optim__blr=1e36, train__max_bad_steps=3)]
    )
    said = capsys.readouterr().err
    assert status == 2 and "were not finite" in said
    rows = read_metrics(workdir / "metrics.jsonl")
    assert rows[-1]["skipped"] >= 3 and not np.isfinite(rows[-1]["loss"])
    from echofm_jax.checkpoint import load_params

    params, _ = load_params(workdir)
    assert all(np.isfinite(x).all() for x in [params["encoder"]["cls_token"]])


def test_bad_records_are_passed_over_counted_and_too_many_end_the_run(tmp_path, capfd):
    discs = [beating_disc(number) for number in range(24)]
    discs[5]["frames"][:] = [b"no frame"] * len(discs[5]["frames"])
    shards.write_dataset(tmp_path / "data", {"train": discs}, size=32, encoding="zstd")
    given = arguments(tmp_path / "run", tmp_path / "data", optim__steps=6)
    assert cli.main(["train", *given]) == 0
    assert capfd.readouterr().err.count(", record 5, frame") == 1
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["bad_records"] >= 1
    given = arguments(tmp_path / "strict", tmp_path / "data", data__max_bad_records=0)
    assert cli.main(["train", *given]) == 2
    (last,) = capfd.readouterr().err.splitlines()[-1:]
    assert re.search(r"shard echo_\S+, record 5, frame \d+ cannot be decoded", last)


def test_full_disk_is_one_line_and_earlier_checkpoints_stay(uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    command = [*COMMAND, f"--workdir={workdir}", "--config.optim.steps=20"]
    limited = ["bash", "-c", 'ulimit -f 100; unset JAX_COMPILATION_CACHE_DIR; exec "$@"', "-"]
    result = subprocess.run([*limited, *command], capture_output=True, text=True, cwd=REPO)
    assert result.returncode == 2, result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("echofm train: ")]
    assert len(said) == 1 and said[0].startswith("echofm train: no room for a checkpoint")
    assert checkpoints(workdir)[:3] == [8, 12, 14]


def run(*argv) -> tuple[int, str]:
    result = subprocess.run([*COMMAND, *argv], capture_output=True, text=True, cwd=REPO)
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modle__depth": 3}, "unknown config field 'modle.depth': did you mean 'model.depth'?"),
        ({"model__frames": 18}, "model.frames=18 is not divisible by model.tubelet=4"),
        ({"model__size": 40}, "model.size=40 is not divisible by model.patch=16"),
        ({"model__size": 64}, "stores frames of 32 pixels"),
        ({"objective__masking": "tube"}, "objective.masking='tube' is none of consistent"),
        ({"data__dir": "nowhere"}, "no data set in nowhere"),
        ({"data__dir": ""}, "give --config.data.dir=DIR"),
        ({"mesh__preset": "fsdp", "mesh__fsdp": 3}, "does not divide the 1 devices"),
    ],
)
def test_wrong_configs_are_one_line_and_leave_nothing(changes, said, tiny_data, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert cli.main(["train", *arguments(workdir, tiny_data, **changes)]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model.width", 64, "model.width=64 (the workdir has 32)"),
        ("optim.moments_dtype", "bfloat16", "(the workdir has float32)"),
        ("optim.ema", 0.99, "optim.ema > 0 is True (the workdir has False)"),
    ],
)
def test_a_workdir_of_another_model_is_refused(
    field, value, said, uninterrupted, tiny_data, capsys
):
    changes = {field.replace(".", "__"): value}
    assert cli.main(["train", *arguments(uninterrupted, tiny_data, **changes)]) == 2
    assert said in capsys.readouterr().err
    override = f"--config.{field}={value}"  # without a file, too
    assert cli.main(["train", f"--workdir={uninterrupted}", override]) == 2
    assert said in capsys.readouterr().err
    assert checkpoints(uninterrupted) == [8, 12, 14]


def test_changed_weights_of_a_mixture_are_refused_on_resume(tiny_data, tmp_path, capsys):
    path, told = tmp_path / "mixture.json", [{"dir": str(tiny_data), "weight": 1}] * 2
    path.write_text(json.dumps(told))
    argv = ["train", *arguments(tmp_path / "run", path, optim__steps=1)]
    assert cli.main(argv) == 0
    path.write_text(json.dumps([told[0], told[1] | {"weight": 2}]))
    argv = ["train", *arguments(tmp_path / "run", path, optim__steps=2)]
    assert cli.main(argv) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "mixture.json: views, modes or weights are not those" in line
    path.write_text(json.dumps(told))
    assert cli.main(argv) == 0


def test_an_unwritable_workdir_is_refused(tiny_data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["train", *arguments(tmp_path / "file" / "run", tiny_data)]) == 2
    assert "cannot write to workdir" in capsys.readouterr().err


def test_nothing_to_resume(tmp_path, capsys):
    assert cli.main(["train", f"--workdir={tmp_path}"]) == 2
    assert "give --config=FILE.py" in capsys.readouterr().err
