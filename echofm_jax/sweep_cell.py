"""A cell of a sweep on disk: how far it is, what is to run next, and why it failed.

Only what `echofm train`, `evaluate` and `finetune` write themselves says how far it is, so a cell
that a pod or a SLURM job trained counts as one that this machine did. `failed.txt` holds why its
last run failed, `log.txt` what its commands said.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from echofm_jax.goodput import read_runs
from echofm_jax.metrics import read_metrics
from echofm_jax.sweep_file import Cell


def last_step(folder: Path) -> int | None:
    """The last step of a run that made all its steps, else None."""
    runs = read_runs(folder / "goodput.json")
    return runs[-1]["step"] if runs and runs[-1]["finished"] else None


def evaluation(folder: Path) -> dict | None:
    """`evaluation.json` of a run's last step, else None."""
    try:
        found = json.loads((folder / "evaluation.json").read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("step") == last_step(folder) else None


def progress(folder: Path) -> str:
    """How far an unfinished run is, in words."""
    failed = folder / "failed.txt"
    if failed.exists():
        return f"failed: {failed.read_text().strip()}"
    if last_step(folder) is not None:
        return "trained, not evaluated"
    rows = read_metrics(folder / "metrics.jsonl")
    return f"stopped or running, step {rows[-1]['step']}" if rows else "not begun"


def without(folder: Path, heads: Iterable[str]) -> list[str]:
    """Those heads that are not trained yet: `finetune` writes their metrics last."""
    return [name for name in heads if not (folder / "heads" / name / "metrics.json").exists()]


def commands(cell: Cell, workdir: Path, alone: bool = False) -> list[list[str]]:
    """What a cell still needs, in order, each with its arguments: train, evaluate, and for its
    heads export and finetune.

    `alone`: evaluated without what models are read beside.
    """
    folder = workdir / cell.name
    missing = []
    if evaluation(folder) is None:
        if last_step(folder) is None:
            train = [f"--config={cell.spec}", f"--workdir={folder}", *cell.overrides]
            missing.append(["train", *train])
        missing.append(["evaluate", f"--workdir={folder}", *["--alone"] * alone])
    model, heads = folder / "model", without(folder, cell.heads)
    if heads and not model.exists():
        missing.append(["export", f"--workdir={folder}", f"--output={model}"])
    for name in heads:
        own = [f"--model={model}", f"--workdir={folder / 'heads' / name}", f"--seed={cell.seed}"]
        missing.append(["finetune", *own, *cell.heads[name]])
    return missing


def label(command: Sequence[str]) -> str:
    """Which command it is, in a word or, of a head, two."""
    if command[0] != "finetune":
        return command[0]
    (workdir,) = (one for one in command if one.startswith("--workdir="))
    return f"finetune {Path(workdir).name}"


def tied(folder: Path, arguments: Sequence[str]) -> list[str]:
    """The command line of a process that lives no longer than this one."""
    python = [sys.executable, "-m"]
    return [
        *python, "echofm_jax.tied", str(os.getpid()), str(folder / ".lock"),
        *python, "echofm_jax", *arguments,
    ]  # fmt: skip


def last_line(log: Path, since: int) -> str:
    """The last thing said in a log after its first `since` bytes: of a failure, the reason."""
    said = log.read_bytes()[since:].decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(said) if line.strip()), "said nothing")
