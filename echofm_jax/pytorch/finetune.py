"""`echofm finetune`: a head on an exported encoder, trained on labelled clips; needs no JAX."""

import argparse
import itertools
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from data_pipelines.places import own_path
from echofm_jax import cli, config_file
from echofm_jax.errors import InputError

if TYPE_CHECKING:
    from data_pipelines.labelled import LabelledClip
    from echofm_jax.pytorch.finetune_run import Run

TASKS = {  # --task: (what its head answers, the labels' column; empty: --target says it)
    "view": ("classes", "view"),
    "segmentation": ("masks", "masks"),
    "interactive_segmentation": ("prompts", "masks"),
    "hypertrophy": ("points", "points"),
    "aortic_stenosis": ("grades", "aortic_stenosis"),
    "aortic_regurgitation": ("grades", "aortic_regurgitation"),
    "ejection_fraction": ("number", "ejection_fraction"),
    "classes": ("classes", ""),
    "grades": ("grades", ""),
    "number": ("number", ""),
}
EXAMPLE = """example:
  echofm finetune --model echofm_vitl --task view --source clips --workdir runs/view
  echofm finetune --model echofm_vitl --task ejection_fraction --dataset echonet_dynamic \\
      --source EchoNet-Dynamic --workdir runs/ef --shares 0.01 0.1 1 --compare_random
  echofm finetune --model echofm_vitl --task aortic_stenosis --source studies \\
      --labels grades.csv --workdir runs/as --config.study=True --folds 5

  echofm finetune --model echoapex_vitb --task ejection_fraction --source clips \\
      --workdir runs/modes --modes frozen lora adapter prompt full --studies 1 5 10 50

Labels: a data set of shards (echofm ingest); a public data set as its owner distributes it; a
table (file, patient, study, split, fps, mask, mask_frame and any column to be learned); a folder a
class. Patients are never split. The recipe's fields are overridden by --config.FIELD=VALUE; recipes
for public data sets lie in configs/finetune/.

WORKDIR/RUN/head is the trained head, to be loaded in three lines (see its README.md);
predictions.csv, metrics.json and figures/ lie beside it. predictions.csv has the files' names: keep
it to yourself. WORKDIR/table.csv has a line a training: mode, what it trained on, parameters that
learned, peak memory, quality. Killed at any moment, the same command goes on and ends with the same
numbers (but for memory, which is measured)."""
log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """The command."""
    args, overrides = parse(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("echofm_jax").setLevel(logging.INFO)
    summary = finetune(args, overrides)
    from echofm_jax.pytorch import finetune_report

    print(finetune_report.text(summary))
    if args.json:
        print(json.dumps(summary))
    return 0


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's options, and the recipe's overrides."""
    parser = argparse.ArgumentParser(
        "echofm finetune", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--model", required=True, type=own_path, help="an exported folder, of EchoFM or Dinov2")
    add("--task", required=True, choices=TASKS)
    add("--source", required=True, type=own_path, help="labelled clips")
    add("--workdir", required=True, type=own_path, help="where the results go; resumes there")
    add("--dataset", default="", help="the public data set that --source is")
    add("--labels", type=own_path, help="a table of labels, CSV or TSV, or a labels.jsonl")
    add("--target", default="", help="the column to learn, for classes, grades and number")
    add("--grades", nargs="+", default=[], help="names of grades, from least to most")
    add("--views", nargs="+", default=[], help="only clips of these views")
    add("--structures", nargs="+", default=[], help="names of a table's masks' values from 0 on")
    add("--leave_out", default="", help="interactive_segmentation: a structure to test alone")
    add("--config", help="a recipe: configs/finetune/NAME.py; without it the task's defaults")
    add("--shares", nargs="+", type=float, default=[1.0], help="of the training patients, 0.01 …")
    add("--studies", nargs="+", type=int, default=[], help="or so many examinations: 1 5 10 50")
    add("--modes", nargs="+", default=[], help="several trainings, each at its mode's usual rate: "
        "frozen lora adapter prompt full")  # fmt: skip
    add("--folds", type=int, default=0, help="k-fold over patients, in place of one split")
    add("--seed", type=int, default=0)
    add("--seeds", type=int, default=1, help="how many trainings, from --seed on")
    add("--compare_random", action="store_true", help="the same heads on random weights, too")
    add("--fps", type=float, default=0.0, help="frame rate of files that do not tell theirs")
    add("--precropped", action="store_true", help="files show nothing but the sector's inside")
    add("--colour", action="store_true", help="keep colour: for Doppler; default is grey")
    add("--device", help="cpu, cuda, cuda:1, …; default: the GPU if there is one")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes that read")
    add("--json", action="store_true", help="figures as JSON on the last line")
    return parser.parse_known_args(argv)


def finetune(args: argparse.Namespace, overrides: Sequence[str]) -> dict:
    """The whole work; returns its figures. Raises InputError for what the user can mend."""
    task, column = TASKS[args.task]
    target = column or args.target
    check(args, target, column)
    from echofm_jax.pytorch import finetune_labels, finetune_report, finetune_run, recipe

    config = config_file.read(args.config) if args.config else recipe.default_recipe(args.task)
    config = config_file.override(config, overrides)
    how = recipe.checked(config)
    own_rate = any(told.startswith("--config.lr=") for told in overrides)
    recipes = {
        mode: recipe.checked(recipe.of_mode(config, mode, args.task, own_rate))
        for mode in args.modes
    } or {"": how}
    device = usable(args.device)
    labelled, known = finetune_labels.read_labels(args, task, target)
    outputs = finetune_labels.names(args, task, target, labelled, known)
    clips, refused = finetune_labels.readable(args, target, known, how)
    run_one = finetune_run.run_clips
    if task == "masks":
        from echofm_jax.pytorch.task_segmentation import run_segmentation as run_one
    if task == "prompts":
        from echofm_jax.pytorch.task_interactive import run_interactive as run_one
    if task == "points":
        from echofm_jax.pytorch.task_hypertrophy import run_hypertrophy as run_one
    planned = list(plan(args, clips, "" if task == "number" else target))
    used = {clip.name for _, splits, *_ in planned for part in splits.values() for clip in part}
    seen = [clip for clip in clips if clip.name in used]
    found = []
    for (name, splits, seed, random), (mode, own) in itertools.product(planned, recipes.items()):
        name = f"{name}-{mode}" if len(recipes) > 1 else name
        run = finetune_run.Run(
            folder=args.workdir / name, model=args.model, random=random, task=task, target=target,
            outputs=outputs, splits=splits, seen=seen, recipe=own, seed=seed, colour=args.colour,
            device=device, cache=args.workdir / "cache", simulated=labelled.simulated,
            leave_out=args.leave_out,
        )  # fmt: skip
        found.append({"run": name, **finished_or(run, run_one)})
    return finetune_report.write(args.workdir, args.task, found, refused)


def check(args: argparse.Namespace, target: str, column: str) -> None:
    """Refuse what makes no sense before anything is read."""
    from data_pipelines import datasets

    if not target:
        raise InputError(f"--task {args.task}: say with --target which column it learns")
    if column and args.target and args.target != column:
        raise InputError(f"--task {args.task} learns {column}: for --target use classes or number")
    if args.leave_out and args.task != "interactive_segmentation":
        raise InputError(f"--leave_out: --task {args.task} takes none")
    if args.dataset:
        config_file.pick(dict.fromkeys(datasets.NAMES, ()), args.dataset, "data set")
    if not all(0 < share <= 1 for share in args.shares):
        raise InputError("--shares: of the training patients, each above 0 and at most 1")
    if args.studies and (min(args.studies) < 1 or args.shares != [1.0]):
        raise InputError("--studies: how many to train on, each 1 or more, in place of --shares")
    if args.folds == 1 or args.folds < 0 or args.seeds < 1 or args.workers < 1:
        raise InputError("--folds 2 or more (0: one split), --seeds and --workers 1 or more")
    if args.workdir.exists() and not args.workdir.is_dir():
        raise InputError(f"--workdir {args.workdir}: is a file; name a folder")


def usable(asked: str | None) -> str:
    """The device's name; raises InputError if it cannot be used."""
    import torch

    name = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: {reason}: give another, such as cpu") from None
    return name


def plan(
    args: argparse.Namespace, clips: Sequence["LabelledClip"], classes: str
) -> Iterator[tuple[str, Mapping, int, bool]]:
    """(name, clips by split, seed, random weights) of each training.

    `classes`: the target if it is one of classes: every part then holds some of each.
    """
    from data_pipelines import labelled_splits

    for seed in range(args.seed, args.seed + args.seeds):
        if args.folds:
            sets = labelled_splits.folds(clips, args.folds, seed, target=classes)
        else:
            sets = [labelled_splits.split_clips(clips, seed=seed, target=classes)]
        for fold, splits in enumerate(sets):
            for amount in args.studies or args.shares:
                part = labelled_splits.few if args.studies else labelled_splits.fraction
                own = {**splits, "train": part(splits["train"], amount, seed, target=classes)}
                for split in ("train", "test"):
                    if not own[split]:
                        raise InputError(f"no clip is left to {split}: label more patients")
                for random in (False, True)[: 1 + args.compare_random]:
                    told = ["random" if random else "pretrained"]
                    told += [f"share={amount:g}"] if len(args.shares) > 1 else []
                    told += [f"studies={amount}"] if args.studies else []
                    told += [f"fold={fold}"] if args.folds else []
                    told += [f"seed={seed}"] if args.seeds > 1 else []
                    yield "-".join(told), own, seed, random


def finished_or(run: "Run", run_one) -> dict:
    """What a run's metrics.json says if the same run has finished before; else run it.

    Raises InputError when the folder is another run's.
    """
    mark = run.folder / "run.json"
    if mark.exists():
        if json.loads(mark.read_text())["key"] != run.key:
            raise InputError(
                f"{run.folder} holds a run of other labels, weights or settings: give another "
                "--workdir, or remove it"
            )
        if (run.folder / "metrics.json").exists():
            log.info("%s: done already", run.folder.name)
            return json.loads((run.folder / "metrics.json").read_text())
    else:
        from echofm_jax.atomic import write_text

        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            write_text(mark, json.dumps({"key": run.key}) + "\n")
        except OSError as error:
            raise InputError(f"{run.folder}: cannot be written ({error.strerror})") from None
    log.info("%s: %s", run.folder.name, ", ".join(f"{len(c)} {s}" for s, c in run.splits.items()))
    import shutil

    shutil.rmtree(run.folder / "head", ignore_errors=True)  # of a run that was killed after it
    return run_one(run)


if __name__ == "__main__":
    sys.exit(cli.run("finetune", sys.argv[1:]))
