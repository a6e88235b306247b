"""The missing cells of a sweep as commands of launch/: to read, to paste, to run as a script."""

import argparse
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError
from echofm_jax.sweep_cell import commands
from echofm_jax.sweep_file import Cell

ROOT = Path(__file__).parents[1]


def script(
    args: argparse.Namespace,
    cells: Sequence[Cell],
    overrides: Sequence[str],
    launcher: Sequence[str],
) -> str:
    """Shell commands, to be run in this checkout.

    Args:
      args: of `echofm sweep`.
      cells: all of the sweep.
      overrides: `--config.section.field=value`, which the cells hold already.
      launcher: arguments for the launcher.

    Raises:
      InputError: the launcher refuses them, or is not here.
    """
    name = re.sub(r"[^a-z0-9]+", "-", args.file.stem.lower()).strip("-")[:30] or "sweep"
    if args.launch == "pod":
        if args.jobs:
            raise InputError("--jobs is not for --launch pod: each printed line is one slice's")
        made = [
            [
                "launch/queued_resource.sh", f"--name={name}-{number}", *launcher,
                f"--config={cell.spec}", f"--workdir={args.workdir}/{cell.name}", *cell.overrides,
            ]
            for number, cell in enumerate(cells)
            if "train" in missing(cell, args.workdir)
        ]  # fmt: skip
    else:
        numbers = [str(i) for i, cell in enumerate(cells) if missing(cell, args.workdir)]
        array = ",".join(numbers) + (f"%{args.jobs}" if args.jobs else "")
        made = [[
            "launch/slurm_array.sh", f"--name={name}", f"--cells={array}", *launcher,
            f"--sweep={args.file}", f"--workdir={args.workdir}", *overrides,
        ]] * bool(numbers)  # fmt: skip
    if not made:
        return f"# nothing is missing: echofm report {shlex.quote(args.workdir)}"
    refuse(made[0])
    return "\n".join([shlex.join(["cd", str(ROOT)]), *map(shlex.join, made)])


def missing(cell: Cell, workdir: str) -> list[str]:
    """Which commands a cell needs: all, where its bucket is not mounted on this machine."""
    try:
        return [command[0] for command in commands(cell, local_path(workdir))]
    except InputError:
        return ["train", "evaluate"]


def refuse(command: Sequence[str]) -> None:
    """Have the launcher itself check its arguments, before anybody runs them all."""
    if not (ROOT / command[0]).exists():
        raise InputError(f"no {command[0]} in {ROOT}: --launch needs a checkout, not only a wheel")
    dry = subprocess.run(
        [*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if dry.returncode:
        raise InputError(dry.stderr.strip() or f"{command[0]} --dry-run failed")
