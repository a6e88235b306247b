"""Files → tasks: what makes a file the same file, and what a worker must know of it."""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.deidentify import keyed_hash
from data_pipelines.labels import Label
from data_pipelines.one_file import Task, Treatment, stamps
from data_pipelines.places import beside, journal_folder
from data_pipelines.source import Source


def make_tasks(args: argparse.Namespace, found: Source, salt: bytes, staged: Path) -> list[Task]:
    """A task for every file, in order; paths are absolute, as other machines need them."""
    how = Treatment(
        salt=salt, size=args.size, encoding=args.encoding, colour=args.colour, fps=args.fps,
        trust_header=args.patient_from == "auto", precropped=found.precropped,
        staged=staged.absolute(),
    )  # fmt: skip
    tasks = []
    for file in without_ours(args, found):
        relative = file.relative_to(found.root)
        label = found.labels.get(relative.as_posix(), Label())
        in_folder = len(relative.parts) > 1 and args.patient_from != "file"
        now = stamps(file, label)
        tasks.append(
            Task(
                path=file.absolute(),
                name=keyed_hash(salt, "name", str(relative)),
                key=keyed_hash(salt, "file", str(relative), repr(now), told(label)),
                stamps=now,
                patient=relative.parts[0] if in_folder else relative.as_posix(),
                label=label,
                treatment=how,
            )
        )
    return tasks


def place(task: Task, root: Path) -> str:
    """Where a task's file lies below the source, as labels and reports name it."""
    return task.path.relative_to(root.absolute()).as_posix()


def told(label: Label) -> str:
    """What a label says. Fields that say nothing may come and go with the program's versions."""
    fields = ((f.name, getattr(label, f.name), f.default) for f in dataclasses.fields(label))
    return repr([(name, value) for name, value, none in fields if repr(value) != repr(none)])


def without_ours(args: argparse.Namespace, found: Source) -> Iterator[Path]:
    """The files that no earlier ingest wrote, into a folder below its source."""
    ours = [args.data_dir, journal_folder(args.data_dir), args.report]
    ours += [beside(args.data_dir, f"{kind}.csv") for kind in ("report", "review")]
    root = found.root.absolute()
    inside = [p.absolute() for p in ours if p and p.absolute().is_relative_to(root)]
    for file in found.files:
        if not any(file.absolute().is_relative_to(path) for path in inside):
            yield file
