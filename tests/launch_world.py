"""A checkout and a PATH on which the launchers meet recording stand-ins (stand_ins.py)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import REPO

STAND_INS = (REPO / "tests" / "stand_ins.py").read_text()
LAUNCHED = ("gcloud", "kubectl", "xpk", "sbatch")
PROGRAMS = (*LAUNCHED, "srun", "scontrol", "gcsfuse", "mountpoint")
LAUNCHERS = ("tpu_vm", "queued_resource", "xpk", "jobset", "slurm")
# What a shell, YAML or Kubernetes would change if one quote were missing.
ODD = '--config.data.dir=gs://b/it\'s $HOME "x" \\ $(touch pwned) `id` * $$ #: é'
TRAINING = ["--config=configs/vit_l.py:paper", ODD, "--workdir=gs://b/runs/vit_l"]
WHERE = {
    "tpu_vm": ["--zone=z", "--topology=v5e:4x4"],
    "queued_resource": ["--zone=z", "--topology=v5e:2x4", "--slices=2", "--spot"],
    "xpk": ["--zone=z", "--cluster=c", "--image=r/echofm:tpu", "--topology=v5p:4x8x8"],
    "jobset": ["--image=r/echofm:tpu", "--topology=v5e:16x16", "--slices=2", "--spot"],
    "slurm": ["--nodes=4", "--extra=--partition=gpu"],
}

# Stands for the training program on a virtual host or node: writes down what it was given, and
# ends with this attempt's status for it.
ECHOFM = """#!{python} -IS
import json, os, pathlib, signal, sys, time
here = pathlib.Path(os.environ["STAND_INS"])
task = os.environ.get("SLURM_PROCID") or os.environ["HOSTNAME"]
log = here / f"runs.{{task}}.jsonl"
names = ("JAX_COORDINATOR_PORT", "JAX_COMPILATION_CACHE_DIR", "LIBTPU_INIT_ARGS",
         "JAX_LOCAL_DEVICE_IDS")
with log.open("a") as file:
    given = {{"argv": sys.argv[1:], "cwd": os.getcwd(),
             "env": {{name: os.environ[name] for name in names if name in os.environ}}}}
    file.write(json.dumps(given) + "\\n")
attempt = len(log.read_text().splitlines()) - 1
plan = json.loads((here / "plan.json").read_text())
status = plan[min(attempt, len(plan) - 1)]
status = status.get(task, status["*"]) if isinstance(status, dict) else status
print("step 1", flush=True)
if status == "preempted":
    (here / "slices" / task.rsplit("-", 1)[0] / "preempted").touch()
elif status == "long":
    while not (here / "connection_is_back").exists():
        time.sleep(0.02)
    status = 0
elif status == "signalled":
    os.kill(os.getppid(), signal.SIGTERM)  # as SLURM signals all of a step
    time.sleep(0.2)
    status = 75
elif status == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(143 if status == "preempted" else status)
"""
UV = """#!/usr/bin/env bash
case $1 in
  venv)
    mkdir -p "${*: -1}/bin"
    cp "$STAND_INS/echofm" "${*: -1}/bin/python"
    cp "$STAND_INS/echofm" "${*: -1}/bin/echofm"
    ;;
esac
"""


class World:
    """A checkout, a PATH of stand-ins, and what they were asked."""

    def __init__(self, folder: Path):
        self.folder, self.root = folder, folder / "checkout"
        for name in ("launch", "configs"):
            shutil.copytree(REPO / name, self.root / name)
        for name in ("echofm_jax", "data_pipelines"):  # are only copied on
            (self.root / name).mkdir()
        for name in ("setup.py", "pyproject.toml", "README.md"):
            shutil.copy(REPO / name, self.root)
        bin_dir = folder / "bin"
        bin_dir.mkdir()
        for name in PROGRAMS:
            (bin_dir / name).write_text(f"#!{sys.executable} -IS\n{STAND_INS}")
            (bin_dir / name).chmod(0o755)
        for path, text in [
            (folder / "echofm", ECHOFM.format(python=sys.executable)),
            (folder / "uv", UV),
            (self.root / ".venv" / "bin" / "echofm", ECHOFM.format(python=sys.executable)),
        ]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STAND_INS": str(folder),
            "HOSTS_PER_SLICE": "1",
        }
        self.plan(0)
        self.queue("ACTIVE")

    def plan(self, *statuses) -> None:
        """How the training program ends, attempt by attempt; a dict says it host by host."""
        (self.folder / "plan.json").write_text(json.dumps(statuses))

    def queue(self, *states: str) -> None:
        """What the queue answers after each request, question by question."""
        (self.folder / "queue_states").write_text(" ".join(states))

    def launch(self, launcher: str, *arguments, where=None) -> subprocess.CompletedProcess:
        hosts = 4 if "--topology=v5e:4x4" in (where or WHERE[launcher]) else 1
        return self.shell(
            [
                self.root / "launch" / f"{launcher}.sh",
                "--name=echo",
                *(where or WHERE[launcher]),
                *(["--poll=0"] if launcher in ("tpu_vm", "queued_resource") else []),
                *arguments,
            ],
            HOSTS_PER_SLICE=str(hosts),
        )

    def shell(self, command, **environment) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment | environment,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def calls(self) -> list[dict]:
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def forget(self) -> None:
        (self.folder / "calls.jsonl").unlink()
        shutil.rmtree(self.folder / "slices", ignore_errors=True)

    def runs(self, task: str) -> list[dict]:
        """Every start of the training program on one host."""
        log = self.folder / f"runs.{task}.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def verbs(self) -> list[str]:
        """What was done to the slices, without questions and files."""
        done = []
        for call in (entry["call"] for entry in self.calls()):
            if call[0] != "gcloud":
                continue
            if call[4] in ("create", "delete"):
                done.append(call[4])
            elif call[4] == "ssh" and " start " in call[-1]:
                done.append("start " + call[5])
        return done

    def finish(self) -> None:
        """End the runs that a failed test left."""
        (self.folder / "connection_is_back").touch()
