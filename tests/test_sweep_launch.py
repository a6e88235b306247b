"""`echofm sweep --launch`: commands of launch/ that a shell reads back as they are meant."""

import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import REPO

from echofm_jax import cli

FILE = "configs/sweeps/masking.py"
SHARED = ["--workdir=gs://b/m", "--config.data.dir=gs://b/it's"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(REPO)


def script(capsys, *arguments) -> list[list[str]]:
    assert cli.run("sweep", [FILE, *arguments]) == 0
    first, *lines = map(shlex.split, capsys.readouterr().out.splitlines())
    assert first == ["cd", str(REPO)]
    return lines


def dry_run(line: list[str]) -> list[list[str]]:
    result = subprocess.run([*line, "--dry-run"], capture_output=True, text=True, cwd=REPO)
    assert result.returncode == 0, result.stderr
    return [shlex.split(command) for command in result.stdout.splitlines()]


def test_a_pod_gets_a_command_for_each_cell(capsys):
    where = ["--zone=z", "--topology=v5e:2x4", "--spot"]
    lines = script(capsys, *SHARED, "--launch=pod", "--", *where)
    assert len(lines) == 12
    assert lines[5] == [
        "launch/queued_resource.sh", "--name=masking-5", *where, "--config=configs/smoke.py:plus",
        "--workdir=gs://b/m/masking=random/seed=1", "--config.data.dir=gs://b/it's",
        "--config.objective.masking=random", "--config.seed=1",
    ]  # fmt: skip
    started = [command for command in dry_run(lines[5]) if command[:2] == ["gcloud", "compute"]]
    assert any("--config.data.dir=" in word for command in started for word in command)


def test_slurm_gets_one_array_whose_tasks_run_their_cells(capsys):
    own = ["--gpus-per-node=2", "--extra=--partition=gpu"]
    (line,) = script(capsys, *SHARED, "--launch=slurm", "--jobs=4", "--", *own)
    (sbatch,) = [command for command in dry_run(line) if command[0] == "sbatch"]
    assert {"--array=0,1,2,3,4,5,6,7,8,9,10,11%4", "--partition=gpu", "--nodes=1"} <= {*sbatch}
    assert sbatch[sbatch.index("env") - 2] == str(REPO / "launch" / "slurm_job.sh")
    task = [word.replace(str(REPO / ".venv/bin/echofm"), "printf") for word in sbatch]
    task = [
        *task[task.index("env") : task.index("printf") + 1],
        "%s\n",
        *task[task.index("sweep") :],
    ]
    result = subprocess.run(
        ["env", "SLURM_ARRAY_TASK_ID=7", *task], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["sweep", FILE, *SHARED, "--cell=7"]


def test_what_is_done_is_not_launched_again(capsys, tmp_path):
    trained, evaluated = (tmp_path / f"masking={kind}" / "seed=0" for kind in ("random", "sector"))
    for folder in (trained, evaluated):
        folder.mkdir(parents=True)
        row = '{"began": 0, "start": 0, "step": 9, "finished": true, "seconds": {"step": 1}}'
        (folder / "goodput.json").write_text(f"[{row}]\n")
    (evaluated / "evaluation.json").write_text('{"step": 9}')
    here = [f"--workdir={tmp_path}", "--config.data.dir=D"]
    own = ["--shared-workdir"]
    lines = script(capsys, *here, "--launch=pod", "--", "--zone=z", "--topology=v5e:2x4", *own)
    assert [line[1] for line in lines[:3]] == [
        "--name=masking-0",
        "--name=masking-2",
        "--name=masking-4",
    ]
    (line,) = script(capsys, *here, "--launch=slurm", "--", *own)
    assert "--cells=0,1,2,4,5,6,7,8,9,10,11" in line  # 1 is still to be evaluated


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*SHARED, "--launch=pod"], "queued_resource.sh: --zone is missing"),
        ([*SHARED, "--launch=pod", "--jobs=2"], "--jobs is not for --launch pod"),
        ([*SHARED, "--launch=slurm", "--", "--gpus-per-node=many"], "is not a number from 1"),
        (["--workdir=W", *SHARED[1:], "--launch=slurm"], "say --shared-workdir"),
    ],
)
def test_what_a_launcher_refuses_is_one_line(arguments, said, capsys):
    assert cli.run("sweep", [FILE, *arguments]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert not Path("W").exists()
