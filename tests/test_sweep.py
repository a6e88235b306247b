"""`echofm sweep` as its users run it: stopped, killed, started again, with a cell that fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import discs
import jax
import pytest
from conftest import REPO, TINY

from echofm_jax import cli
from echofm_jax.checkpoint import load_params
from echofm_jax.compare_runs import parameters, read_all
from echofm_jax.config import architecture, load, objective
from echofm_jax.errors import InputError
from echofm_jax.goodput import read_runs
from echofm_jax.metrics import read_metrics
from echofm_jax.sweep_cell import commands, evaluation, progress
from echofm_jax.sweep_file import cells_of

COMMAND = (sys.executable, "-W", "error", "-m", "echofm_jax", "sweep")
STEPS = 150  # a second or two: long enough to be killed in the middle
# Every program runs for a second at most: compiling them well takes longer than it saves.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}


def write_sweep(path: Path, seeds: tuple = (0,), **fixed) -> Path:
    """A sweep file of two settings: one that works, one that needs three devices.

    What they learn is used to tell clips of discs that lie beside the file.
    """
    clips = path.parent / "discs"
    table = f"--labels={clips / 'labels.csv'}"
    arguments = ("--task=classes", "--target=kind", f"--source={clips}", table, "--precropped")
    heads = {"kind": arguments}
    quick = {"train.checkpoint_every": 1000, "train.evaluate_every": 0, "model.remat": "none"}
    fixed = TINY | quick | {"optim.steps": STEPS} | fixed
    path.write_text(
        "from echofm_jax.sweep_file import Sweep\n\n\n"
        "def get_sweep():\n"
        f"    return Sweep(config={str(REPO / 'configs' / 'smoke.py')!r}, fixed={fixed!r},\n"
        '        settings={"sound": {}, "wide": {"mesh.preset": "fsdp", "mesh.fsdp": 3}},\n'
        f"        seeds={list(seeds)}, heads={heads!r})\n"
    )
    return path


def start(*arguments) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=REPO, env=os.environ | QUICK,
    )  # fmt: skip


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def children(process: subprocess.Popen) -> list[int]:
    """The processes that a sweep has begun."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_data):
    """(arguments, cell's folder, what the last of three starts did).

    The first loses its training to kill -9 and is told to stop when it has begun it again; the
    second is itself killed with -9 in the middle of training.
    """
    folder = tmp_path_factory.mktemp("swept")
    workdir = folder / "masking"
    cell = workdir / "sound" / "seed=0"
    data = f"--config.data.dir={tiny_data}"
    discs.write_clips(folder / "discs")
    arguments = [write_sweep(folder / "sweep.py"), f"--workdir={workdir}", data]
    first = start(*arguments)
    wait_for(lambda: children(first), first)
    (training,) = children(first)
    os.kill(training, signal.SIGKILL)
    wait_for(lambda: children(first) not in ([training], []), first)
    first.send_signal(signal.SIGTERM)
    out, errors = first.communicate()
    assert first.returncode == 75, errors
    assert "sound/seed=0: was killed by SIGKILL: begun again" in out
    assert "sound/seed=0: stopped" in out
    assert errors.startswith("echofm sweep: stopped: 0 of 2 cells done")
    second = start(*arguments)
    wait_for(lambda: len(read_metrics(cell / "metrics.jsonl")) > 4, second)
    second.kill()
    second.communicate()
    third = start(*arguments, "--jobs=2")
    out, errors = third.communicate()
    return arguments, cell, (third.returncode, out, errors)


def test_a_killed_sweep_goes_on_where_its_cells_were_saved(swept):
    _, cell, (_, out, _) = swept
    killed, resumed = read_runs(cell / "goodput.json")
    # The sweep's death told the training to stop, and that was over before the next one began.
    assert not killed["finished"] and 4 < killed["step"] < STEPS
    assert resumed["start"] == killed["step"] and resumed["step"] == STEPS
    assert [row["step"] for row in read_metrics(cell / "metrics.jsonl")] == [*range(1, STEPS + 1)]
    assert evaluation(cell)["step"] == STEPS
    assert all(run["cpu"] > 0 for run in (killed, resumed))
    lines = [line.split("] ")[1] for line in out.splitlines() if "sound" in line]
    did = ("train", "evaluate", "export", "finetune kind", "done")
    assert lines == [f"sound/seed=0: {what}" for what in did]


def test_heads_that_are_missing_are_said_and_trained(swept, tmp_path):
    arguments, cell, _ = swept
    workdir = tmp_path / "W"
    mine = shutil.copytree(cell, workdir / "sound" / "seed=0")
    shutil.copy(cell.parents[1] / "sweep.json", workdir)
    (mine / "heads" / "kind" / "metrics.json").unlink()
    run = read_all([workdir])[0]
    assert run.state == "not trained yet: heads kind"
    assert "psnr" in run.metrics and "kind/accuracy" not in run.metrics
    cells = cells_of(arguments[0], [f"--config.data.dir={load(cell).data.dir}"])
    (command,) = commands(cells[0], workdir)
    own = [f"--model={mine / 'model'}", f"--workdir={mine / 'heads' / 'kind'}", "--seed=0"]
    assert command[:4] == ["finetune", *own] and "--target=kind" in command
    (mine / "failed.txt").write_text("finetune kind was killed by SIGKILL: said nothing\n")
    assert read_all([workdir])[0].state.endswith(
        "kind (finetune kind was killed by SIGKILL: said nothing)"
    )
    (mine / "heads" / "kind" / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"kind/metrics\.json is damaged: .*; remove .*heads/kind"):
        read_all([workdir])


def test_a_head_that_was_told_otherwise_is_refused(swept, tmp_path, capsys):
    arguments, cell, _ = swept
    text = arguments[0].read_text().replace("--target=kind", "--target=grade")
    (tmp_path / "sweep.py").write_text(text)
    assert cli.run("sweep", [str(tmp_path / "sweep.py"), *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert f"{cell / 'heads' / 'kind'} was trained with other arguments (--task=classes" in error
    assert error.count("\n") == 1


def test_a_failing_cell_is_shown_and_stops_nothing(swept):
    _, cell, (status, out, errors) = swept
    assert status == 1 and errors == ""
    (line,) = [line for line in out.splitlines() if "FAILED" in line]
    assert "wide/seed=0: FAILED: train ended with status 2: echofm train:" in line
    assert "mesh.fsdp" in line
    assert "1 of 2 cells done, 1 failed" in out.splitlines()[-1]
    why = line.partition("FAILED: ")[2]
    assert progress(cell.parents[1] / "wide" / "seed=0") == f"failed: {why}"


def test_started_again_it_does_only_what_is_missing(swept, capfd):
    arguments, cell, _ = swept
    before = {path: path.stat().st_mtime_ns for path in cell.rglob("*")}
    assert cli.run("sweep", [str(arguments[0]), *arguments[1:], "--cell=0"]) == 0
    assert "sound/seed=0: done already" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in cell.rglob("*")} == before


def test_a_report_shows_what_is_there_and_what_is_not(swept, capsys):
    _, cell, _ = swept
    workdir = cell.parents[1]
    assert cli.run("report", [str(workdir)]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 runs are evaluated" in shown and "the clips are simulated" in shown
    assert "wide, seed 0: failed: train ended with status 2" in shown
    found = evaluation(cell)
    assert f"{found['psnr']:.4g}" in shown and "missing" in shown
    page = (workdir / "report" / "report.html").read_text()
    assert "failed: train ended with status 2" in page and "simulated" in page
    (line,) = [
        line
        for line in (workdir / "report" / "table.csv").read_text().splitlines()
        if line.startswith("sound,psnr,")
    ]
    assert float(line.split(",")[5]) == found["psnr"]
    (head,) = json.loads((cell / "heads" / "kind" / "metrics.json").read_text())["runs"]
    assert head["seed"] == 0 and head["weights"] == "pretrained"
    told = f"sound,kind/accuracy,,1,1,{head['scores']['accuracy']['value']},"
    assert told in (workdir / "report" / "table.csv").read_text()


def test_parameters_are_those_of_the_model(swept):
    _, cell, _ = swept
    saved = jax.tree.leaves(load_params(cell, None)[0])
    config = load(cell)
    assert parameters(architecture(config), objective(config)) == sum(leaf.size for leaf in saved)


def test_a_run_killed_between_its_last_save_and_its_last_word_is_done(swept, tmp_path):
    _, cell, _ = swept
    run = shutil.copytree(cell, tmp_path / "run")
    text = (run / "goodput.json").read_text()
    (run / "goodput.json").write_text(text.replace('"finished": true', '"finished": false'))
    assert evaluation(run) is None
    assert cli.run("train", [f"--workdir={run}"]) == 0
    assert evaluation(run)["step"] == STEPS


def test_cells_made_from_another_config_are_refused(swept, tmp_path, capsys):
    arguments, cell, _ = swept
    changed = write_sweep(tmp_path / "sweep.py", **{"optim.blr": 0.5})
    assert cli.run("sweep", [str(changed), *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert f"{cell} was made with another config (optim.blr: 0.032 → 0.5)" in error
    assert error.count("\n") == 1
