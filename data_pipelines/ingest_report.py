"""What is told of an ingest: a table of every file for its owner, and figures that name none."""

import csv
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data_pipelines.journal import Entry, Journal
from data_pipelines.one_file import Outcome, Task
from data_pipelines.tasks import place
from echofm_jax.errors import InputError

COLUMNS = (
    "file", "status", "reason", "detail", "split", "mode", "frames", "fps", "fps_source", "clip_id",
    "patient_id", "ecg_removed",
)  # fmt: skip
REVIEW_COLUMNS = ("file", "detail")
CHANGED = "the data set holds the file as it was: --overwrite takes it anew"
LEFT_OUT = "left out by Beam, done afterwards"


def require_own(what: str, path: Path, columns: Sequence[str]) -> None:
    """Raises InputError if another file lies there, or none can be written.

    A file that is no table of these columns would be lost, and a folder, or one without the right
    to write, be found out when all the work is done.
    """
    header = ",".join(columns).encode()
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{what} {path}: is a folder or a device: give the name of a file")
        try:
            with path.open("rb") as file:
                line = file.readline(len(header) + 2)  # longer ones are others
        except FileNotFoundError:
            line = b""
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        tempfile.TemporaryFile(dir=folder).close()  # the folders below it will be made
    except OSError as error:
        raise InputError(f"{what} {path}: {error.strerror}: give another place") from None
    if line and line.rstrip(b"\r\n") != header:
        raise InputError(f"{what} {path}: another file lies there: move it, or give another name")


def write_report(
    path: Path,
    root: Path,
    tasks: Sequence[Task],
    journal: Journal,
    entries: Sequence[Entry],
    left_out: Iterable[Task] = (),
) -> None:
    """A line for every file of the source.

    Args:
      entries: of this run, in the journal or not.

    Raises:
      InputError: it cannot be written.
    """
    late = {task.key for task in left_out}
    latest = journal.latest | {entry.name: entry for entry in entries}
    rows = []
    for task in tasks:
        outcome = latest[task.name].outcome
        notes = [outcome.detail] if outcome.detail else []
        status = "rejected" if outcome.reason else "accepted"
        if journal.changed(task):
            status, outcome = "changed", outcome._replace(reason="changed")
            notes.append(CHANGED)
        if task.key in late:
            notes.append(LEFT_OUT)
        rows.append((
            place(task, root), status, outcome.reason, "; ".join(notes),
            outcome.split, outcome.mode, outcome.frames or "",
            f"{outcome.fps:.3f}" if outcome.fps else "", outcome.fps_source, outcome.clip_id,
            outcome.patient_id, "yes" if outcome.ecg_removed else "",
        ))  # fmt: skip
    write_table(path, COLUMNS, rows)


def write_review(path: Path, root: Path, tasks: Sequence[Task], journal: Journal) -> None:
    """The clips that somebody should look at, because no sector could be verified."""
    found = ((task, journal.latest[task.name].outcome) for task in tasks)
    rows = [
        (place(task, root), outcome.detail)
        for task, outcome in found
        if outcome.reason == "no_sector"
    ]
    write_table(path, REVIEW_COLUMNS, rows)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """A CSV file, whole, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(0o600)
        # A name that is no text stands in the table with its own bytes.
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file)
            table.writerow(header)
            table.writerows(rows)
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"report {path}: {error.strerror}; give --report a file you can write"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def figures(tasks: Sequence[Task], journal: Journal, counts: Mapping[str, int]) -> dict:
    """Figures of the whole data set, earlier runs included."""
    outcomes = [entry.outcome for entry in journal.latest.values()]
    accepted = [o for o in outcomes if not o.reason]
    places = {o.patient_id: o.split for o in accepted}
    there = {task.name for task in tasks}
    return {
        "files": len(outcomes),
        "accepted": len(accepted),
        "rejected": reasons(outcomes),
        "modes": dict(Counter(o.mode for o in accepted)),
        "patients": len(places),
        "patients_by_split": dict(Counter(places.values())),
        "records": dict(counts),
        "frames": sum(o.frames for o in accepted),
        "changed": sum(map(journal.changed, tasks)),
        "gone": sum(name not in there for name in journal.latest),
    }


def reasons(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many files were rejected, by reason."""
    return dict(Counter(o.reason for o in outcomes if o.reason))


def print_summary(summary: Mapping) -> None:
    """The figures for a reader; no file is named."""
    modes = ", ".join(f"{n} {m}" for m, n in summary["modes"].items())
    print(f"accepted {summary['accepted']} of {summary['files']} files ({modes})")
    for reason, count in sorted(summary["rejected"].items()):
        print(f"rejected {count}: {reason}")
    if summary["changed"]:
        print(f"changed {summary['changed']}: {CHANGED}")
    if summary["gone"]:
        print(f"gone {summary['gone']}: no longer in the source, still in the data set's account")
    if summary["labels_without_file"]:
        print(f"labels without a file: {summary['labels_without_file']}")
    splits = ", ".join(
        f"{split} {count} records of {summary['patients_by_split'][split]} patients"
        for split, count in summary["records"].items()
    )
    print(f"splits: {splits}")
    if summary["patients_moved_to_fill_a_split"]:
        print(
            f"{summary['patients_moved_to_fill_a_split']} patient(s) changed split because one "
            "would have been empty"
        )
    print(f"data set: {summary['data_dir']}")
    print(f"report (has file names, keep it private): {summary['report']}")
    if summary["review"]:
        print(f"to look at (has file names, keep it private): {summary['review']}")
