"""What was made of each file, one file apiece, until a shard holds it.

    DATA_DIR-ingest/staged/7f/7f3a…   a line of JSON (the Outcome), then the serialized records

Whoever calls `stage`, here or on another machine that sees the same folders, a staged file is
there whole or not at all, and no file of the source is worked on twice.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data_pipelines import workers
from data_pipelines.one_file import Outcome, Task, ingest_file

DIED = Outcome(reason="failed", detail=workers.lost(None))
HUNG = Outcome(reason="failed", detail=workers.lost(workers.HUNG))


def staged_path(folder: Path, key: str) -> Path:
    """Where the outcome of a task lies."""
    return folder / key[:2] / key


def stage(task: Task) -> None:
    """Work on one file and keep what came of it.

    Raises:
      OSError: it cannot be kept: a full disk is no fault of the file.
    """
    put(task, *ingest_file(task))


def stage_apart(task: Task, apart: workers.Apart) -> None:
    """`stage` in another process: if it dies or hangs, that is the file's outcome."""
    put_lost(task, apart.run(staged, task))


def put_lost(task: Task, result: object) -> None:
    """Keep the outcome of a task that its process did not stage, by what `workers` say of it."""
    if result is not True:
        put(task, HUNG if result is workers.HUNG else DIED, [])


def time_limit(task: Task) -> float:
    """Seconds after which a file's process will not come back."""
    return workers.patience(task.stamps)


def put(task: Task, outcome: Outcome, records: Sequence[bytes]) -> None:
    """Write a task's outcome and records; whole or not at all."""
    path = staged_path(task.treatment.staged, task.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.uname().nodename}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(json.dumps(outcome._asdict()).encode() + b"\n")
            file.writelines(records)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def get_outcome(folder: Path, key: str) -> Outcome | None:
    """What became of a task; None: nothing yet."""
    try:
        with staged_path(folder, key).open("rb") as file:
            values = json.loads(file.readline())
    except FileNotFoundError:
        return None
    return Outcome(**values | {"sizes": tuple(values["sizes"])})


def get_records(folder: Path, key: str) -> list[bytes]:
    """The serialized records of a task that was accepted."""
    with staged_path(folder, key).open("rb") as file:
        sizes = json.loads(file.readline())["sizes"]
        return [file.read(size) for size in sizes]


def missing(tasks: Sequence[Task]) -> list[Task]:
    """Tasks of which nothing is staged."""
    return [t for t in tasks if not staged_path(t.treatment.staged, t.key).exists()]


def forget_failures(tasks: Sequence[Task]) -> None:
    """Have no outcome of those that an earlier run, cut short, may have had bad luck with."""
    for task in tasks:
        outcome = get_outcome(task.treatment.staged, task.key)
        if outcome and outcome.retried:
            staged_path(task.treatment.staged, task.key).unlink()


def run(tasks: Sequence[Task], count: int, beam_options: Sequence[str] | None) -> list[Task]:
    """Have every task staged, with `count` processes or by Beam; returns what Beam left out.

    Beam has been seen to end well without some of its elements, so the folder is asked, not Beam.

    Args:
      beam_options: None: this machine's processes do all.
    """
    forget_failures(tasks)
    waiting = missing(tasks)
    if beam_options is None:
        run_here(waiting, count, len(tasks))
        return []
    if waiting:
        from data_pipelines import beam_runner

        beam_runner.run(waiting, beam_options)
    left_out = missing(waiting)
    if left_out:
        print(
            f"Beam left out {len(left_out)} of {len(waiting)} files; they are done here now, and "
            "the report names them",
            file=sys.stderr,
        )
        run_here(left_out, count, len(tasks))
    return left_out


def run_here(tasks: Sequence[Task], count: int, total: int) -> None:
    """Stage tasks on this machine; of `total` files the others are done."""
    from tqdm import tqdm

    progress = tqdm(
        desc="ingest", total=total, initial=total - len(tasks), unit="file", file=sys.stderr
    )
    with progress:
        done = workers.map_in_order(staged, tasks, count, time_limit)
        for task, result in zip(tasks, done, strict=True):
            put_lost(task, result)
            progress.update()


def staged(task: Task) -> bool:
    """`stage`, telling its caller that the process lives."""
    stage(task)
    return True
