"""`echofm sweep`: every setting of a sweep file with every seed, trained and evaluated, and used
for the heads that the file names.

Run again it does only what is missing: after `kill -9` too, and when the file has got more values
or seeds. A cell that fails is shown and stops no other. Exit status 1: some cells failed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from echofm_jax import cli
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError

if TYPE_CHECKING:
    from echofm_jax.sweep_file import Cell

EXAMPLE = """example:
  echofm sweep configs/sweeps/masking.py --workdir runs/masking --config.data.dir=DATA --jobs 2
  echofm sweep configs/sweeps/masking.py --workdir gs://B/masking --config.data.dir=gs://B/echo \\
      --launch pod -- --zone=us-west4-a --topology=v5e:2x4 --spot > cells.sh
  echofm report runs/masking

--launch pod prints a launch/queued_resource.sh command for each cell that is not trained; --launch
slurm prints one launch/slurm_array.sh command for all that are missing. What follows -- is theirs.
Afterwards the same sweep without --launch evaluates what they trained."""


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        "echofm sweep", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add(
        "file",
        type=Path,
        metavar="FILE.py",
        help="see echofm_jax/sweep_file.py and configs/sweeps/",
    )
    add("--workdir", required=True, help="gets a folder SETTING/seed=N for each cell")
    add("--jobs", type=int, help="cells at the same time (default 1; slurm: all)")
    add("--launch", choices=("local", "pod", "slurm"), default="local", help="default: run here")
    add(
        "--alone",
        action="store_true",
        help="evaluate without raw pixels and random weights: they are the same for all settings",
    )
    add("--cell", type=int, metavar="N", help="only this one, as a task of a SLURM array does")
    argv, launcher = split(argv)
    args, overrides = parser.parse_known_args(argv)
    for extra in overrides:
        if not extra.startswith("--config.") or "=" not in extra:
            raise InputError(f"unknown argument {extra}: see `echofm sweep --help`")
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: give at least 1")
    if args.cell is not None and args.launch != "local":
        raise InputError("--cell is for this machine: a launcher gets what is missing")
    if launcher and args.launch == "local":
        raise InputError(f"{launcher[0]} is for a launcher: add --launch pod or slurm")
    from echofm_jax.sweep_file import cells_of
    from echofm_jax.sweep_run import Runner

    cells = cells_of(args.file, overrides)
    if not all(cell.config.data.dir for cell in cells):
        raise InputError("no data: give --config.data.dir=DIR, what `echofm ingest` wrote")
    if args.launch != "local":
        from echofm_jax import sweep_launch

        print(sweep_launch.script(args, cells, overrides, launcher))
        return 0
    if args.cell is not None and not 0 <= args.cell < len(cells):
        raise InputError(f"--cell {args.cell}: the sweep has cells 0 to {len(cells) - 1}")
    from data_pipelines.mixture import dataset_info

    workdir = local_path(args.workdir)
    chosen = cells if args.cell is None else [cells[args.cell]]
    for folder in {cell.config.data.dir: None for cell in chosen}:
        dataset_info(folder)  # or else every cell would say that it is not there
    prepare(workdir, args.file, cells)
    return Runner(workdir, chosen, args.jobs or 1, args.alone).run()


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments before and after `--`."""
    argv = list(argv)
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], argv[end + 1 :]


def prepare(workdir: Path, file: Path, cells: Sequence["Cell"]) -> None:
    """Refuse what cannot be, then write down which cells the sweep has, for `echofm report`."""
    from echofm_jax import config as configs
    from echofm_jax.atomic import write_text
    from echofm_jax.sweep_file import differences

    for cell in cells:
        folder = workdir / cell.name
        if not (folder / "config.json").exists():
            continue
        if changed := differences(configs.load(folder), cell.config):
            raise InputError(
                f"{folder} was made with another config ({', '.join(changed)}): choose another "
                "--workdir, remove that folder, or undo the change"
            )
    refuse_other_heads(workdir, cells)
    rows = [
        {
            "name": cell.name, "setting": cell.setting, "seed": cell.seed,
            "heads": {name: list(told) for name, told in cell.heads.items()},
            "config": cell.config.to_dict(),
        }
        for cell in cells
    ]  # fmt: skip
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(workdir / "sweep.json", json.dumps({"file": str(file), "cells": rows}, indent=1))
    except OSError as error:
        raise InputError(
            f"cannot write to {workdir}: {error.strerror or error}; choose another --workdir"
        ) from error


def refuse_other_heads(workdir: Path, cells: Sequence["Cell"]) -> None:
    """A head that is trained already stands for what it was told then."""
    from echofm_jax.sweep_cell import without

    try:
        before = json.loads((workdir / "sweep.json").read_text())["cells"]
    except (OSError, ValueError, KeyError):
        return  # a first start
    told = {cell["name"]: cell.get("heads", {}) for cell in before}
    for cell in cells:
        folder = workdir / cell.name
        for name in {*cell.heads} - {*without(folder, cell.heads)}:
            mine, theirs = list(cell.heads[name]), told.get(cell.name, {}).get(name)
            if theirs is not None and mine != theirs:
                raise InputError(
                    f"{folder / 'heads' / name} was trained with other arguments "
                    f"({' '.join(theirs)}): remove it, name the head otherwise, or undo the change"
                )


if __name__ == "__main__":
    sys.exit(cli.run("sweep", sys.argv[1:]))
