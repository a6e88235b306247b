"""A table of labelled clips, CSV or TSV, or a labels.jsonl.

Columns: `file` (its path below the source), and any of `patient`, `study`, `split` (train, val or
test), `fps` (frames a second), `mask` (a PNG below the source, whose pixels are the number of a
structure, 0 the background) and `mask_frame` (whose mask it is, from 0). Every other column is a
target: numbers, or names of classes. Nothing in a cell: unknown. A file of several masks has
several rows, of which one says the rest. A column without a name, as some programs number rows, is
not used.
"""

import csv
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from data_pipelines import labelled_files
from data_pipelines.datasets import tables
from data_pipelines.labels import Label, read_labels
from echofm_jax.errors import InputError

ABOUT = ("file", "patient", "study", "split", "fps", "mask", "mask_frame")  # no targets
SPLITS = {"": "", "train": "train", "training": "train", "val": "val", "valid": "val",
          "validation": "val", "test": "test", "testing": "test"}  # fmt: skip
FRAMES = 1 << 20  # no clip has so many


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of one file."""

    name: str  # its path below the source
    label: Label
    targets: dict[str, str | float]
    folders: tuple[str, ...]  # that may be a patient's
    study: str = ""


def read_jsonl(path: Path) -> list[Row]:
    """The files of a labels.jsonl. Raises InputError naming the first line that is wrong."""
    return [
        Row(name, label, labelled_files.targets(label), PurePosixPath(name).parts[:-1])
        for name, label in read_labels(path).items()
    ]


def read_table(path: Path, source: Path) -> list[Row]:
    """The files of a table, in its order.

    Raises:
      InputError: naming line and column of what is wrong: no column `file`, a number that is none
        or not finite, numbers among names, a split that nobody knows, rows that contradict.
    """
    lines = list(read_lines(path))
    columns = (
        [column for column in lines[0].values if column and column not in ABOUT] if lines else []
    )
    numeric = {column for column in columns if is_numeric(lines, column)}
    own: dict[str, list[tables.Row]] = {}
    for line in lines:
        own.setdefault(place(line, "file"), []).append(line)
    return [one_file(name, rows, columns, numeric, source) for name, rows in own.items()]


def one_file(
    name: str, rows: Sequence[tables.Row], columns: Sequence[str], numeric: set[str], source: Path
) -> Row:
    """All rows of a file as one."""
    known = {column: agreed(rows, column) for column in (*ABOUT[1:5], *columns)}
    masks: dict[int, str] = {}
    for row in rows:
        if not row.values.get("mask", "").strip():
            continue
        frame = row.number("mask_frame", 0, FRAMES) if "mask_frame" in row.values else 0.0
        if not (math.isnan(frame) or frame.is_integer()):
            raise row.wrong("mask_frame", "is no whole number")
        frame = 0 if math.isnan(frame) else int(frame)
        if frame in masks:
            raise row.wrong("mask_frame", f"{frame} of this file has a mask already")
        masks[frame] = place(row, "mask")
        if not masks[frame].lower().endswith(".png"):
            raise row.wrong("mask", "is no PNG")
    # Absolute, as a mask may lie anywhere below the source.
    files = tuple((str((source / mask).absolute()), frame) for frame, mask in masks.items())
    return Row(
        name=name,
        label=Label(
            patient=known["patient"][0],
            fps=known["fps"][1].rate("fps") if known["fps"][0] else 0.0,
            split=split(*known["split"]),
            mask_files=files,
        ),
        targets={
            column: float(known[column][0]) if column in numeric else known[column][0]
            for column in columns
            if known[column][0]
        },
        folders=PurePosixPath(name).parts[:-1],
        study=known["study"][0],
    )


def agreed(rows: Sequence[tables.Row], column: str) -> tuple[str, tables.Row]:
    """What the rows of a file say in a column, empty if nothing, and a row that says it."""
    said = [(row.values.get(column, "").strip(), row) for row in rows]
    said = [(value, row) for value, row in said if value] or said[:1]
    for value, row in said[1:]:
        if value != said[0][0]:
            raise row.wrong(column, f"differs from line {said[0][1].line}, of the same file")
    return said[0]


def split(word: str, row: tables.Row) -> str:
    """The split that a word means."""
    if word.lower() not in SPLITS:
        raise row.wrong("split", "is none of train, val, test")
    return SPLITS[word.lower()]


def place(row: tables.Row, column: str) -> str:
    """A path below the source."""
    path = PurePosixPath(row.text(column))
    if path.is_absolute() or ".." in path.parts:
        raise row.wrong(column, "does not lie below the source")
    return path.as_posix()


def is_numeric(lines: Sequence[tables.Row], column: str) -> bool:
    """Whether a target is a number wherever it is known; raises InputError for one now and then."""
    numbers, names = [], []
    for line in lines:
        if not (value := line.values[column].strip()):
            continue
        try:
            number = float(value)
        except ValueError:
            names.append(line)
            continue
        numbers.append(line)
        if not math.isfinite(number):
            raise line.wrong(column, "is no finite number: leave it empty where it is not known")
    if numbers and names:
        raise names[0].wrong(
            column,
            f"is no number, as in line {numbers[0].line}: give numbers or names alone, and leave "
            "empty what is not known",
        )
    return bool(numbers)


def read_lines(path: Path) -> Iterator[tables.Row]:
    """The rows of a table as they stand; raises InputError for one that is no table."""
    name = f"labels {path.name}"
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            header = [column.strip() for column in next(reader, [])]
            if "file" not in header:
                there = ", ".join(header) or "nothing"
                raise InputError(
                    f"{name}: no column 'file', the path of a clip below the source; it has {there}"
                )
            for number, column in enumerate(header):
                if column and column in header[:number]:
                    raise InputError(f"{name}: column '{column}' is there twice: take one out")
            yield from tables.rows_below(name, header, reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{name}: cannot be read ({type(error).__name__}): save as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"labels {path}: cannot be read ({error.strerror})") from None
