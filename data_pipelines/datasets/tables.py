"""Tables that come with a data set, their columns and values checked; joined with its files."""

import csv
import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from data_pipelines.arrays import RATES
from data_pipelines.labels import Label
from echofm_jax.errors import InputError

Value = TypeVar("Value")
SPLITS = {"train": "train", "val": "val", "test": "test"}


class Row(NamedTuple):
    """One row of a table. What it says that is wrong is named by its place, never quoted."""

    table: str
    line: int  # 0: of a file that is no table
    values: Mapping[str, str]

    def wrong(self, column: str, what: str) -> InputError:
        """The error to raise for a value."""
        place = f"{self.table}, line {self.line}" if self.line else self.table
        return InputError(f"{place}: {column} {what}")

    def text(self, column: str) -> str:
        """A value that must not be empty."""
        if not (value := self.values[column].strip()):
            raise self.wrong(column, "is empty")
        return value

    def stem(self, column: str) -> str:
        """A file name without folder and without `.avi`: some tables write it, some do not."""
        name = self.text(column)
        if name != Path(name).name:
            raise self.wrong(column, "is no file name")
        return name[:-4] if name.lower().endswith(".avi") else name

    def number(self, column: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A number within limits; NaN where nothing stands."""
        if not (value := self.values[column].strip()):
            return math.nan
        try:
            number = float(value)
        except ValueError:
            raise self.wrong(column, "is no number") from None
        if not math.isfinite(number):
            raise self.wrong(column, "is no finite number")
        if not low <= number <= high:
            raise self.wrong(column, f"is not between {low:g} and {high:g}")
        return number

    def rate(self, column: str) -> float:
        """Frames a second; 0 where nothing or 0 stands."""
        rate = self.number(column)
        if math.isnan(rate) or rate == 0:
            return 0.0
        if not RATES[0] <= rate <= RATES[1]:
            raise self.wrong(column, f"is not between {RATES[0]:g} and {RATES[1]:g}")
        return rate

    def whole(self, column: str) -> int:
        """A whole number."""
        number = self.number(column, -(2**31), 2**31)
        if not number.is_integer():
            raise self.wrong(column, "is no whole number")
        return int(number)

    def choice(self, column: str, choices: Mapping[str, Value]) -> Value:
        """What a word stands for."""
        try:
            return choices[self.values[column].strip()]
        except KeyError:
            known = ", ".join(choices)
            raise self.wrong(column, f"is none of {known}") from None


def read_table(path: Path, *columns: Sequence[str], ignored: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a CSV file.

    Args:
      path: the file; NAME.csv.gz is unpacked as it is read.
      columns: what must be there, no more and no less; several sequences are alternatives.
      ignored: columns that may be there and are not used.

    Raises:
      InputError: naming the file, and the column that is missing, unknown or there twice, or the
        line that has another number of values.
    """
    name = path.name
    try:
        unpacked = gzip.open if path.suffix == ".gz" else open
        with unpacked(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [column.strip() for column in next(reader, [])]
            _check_header(name, header, columns, ignored)
            yield from rows_below(name, header, reader)
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error) as error:
        raise InputError(f"{name}: cannot be read ({type(error).__name__})") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None


def rows_below(name: str, header: Sequence[str], reader: Iterator[list[str]]) -> Iterator[Row]:
    """What a csv.reader still holds, without empty lines; raises InputError naming a wrong one."""
    for values in reader:
        if not any(values):
            continue
        if len(values) != len(header):
            raise InputError(
                f"{name}, line {reader.line_num}: {len(values)} values, "
                f"the header has {len(header)} columns"
            )
        yield Row(name, reader.line_num, dict(zip(header, values, strict=True)))


def _check_header(
    name: str, header: Sequence[str], alternatives: Sequence[Sequence[str]], ignored: Sequence[str]
) -> None:
    columns = max(alternatives, key=lambda wanted: len(set(wanted) & set(header)))
    for column in columns:
        if column not in header:
            raise InputError(f"{name}: column {column} is missing")  # may have no header: no quote
    for number, column in enumerate(header):
        if column not in (*columns, *ignored):
            known = ", ".join(columns)
            raise InputError(f"{name}: unknown column '{column}'; known are {known}")
        if column in header[:number]:
            raise InputError(f"{name}: column {column} is there twice")


def split_by_patient(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{patient: split} of (patient, split) of every file.

    Where files of a patient lie in several splits, all go to the first of test, val and train:
    nobody is trained on and tested. An empty split is none.
    """
    order = ("test", "val", "train", "")
    splits: dict[str, str] = {}
    for patient, split in pairs:
        splits[patient] = min(split, splits.get(patient, split), key=order.index)
    return splits


def join(
    root: Path, found: Iterable[Path], known: Mapping[str, Label], table: str, absent: Callable
) -> tuple[list[Path], dict[str, Label]]:
    """Files and what a table says of them, by their names without suffix.

    A file that the table does not list, or a second one of the same name, is kept with a label
    that says so; what is listed and not found is added as `absent(stem)`: both are then refused
    one by one, and stand in the report.

    Returns:
      All files, and {path below the root: label}.
    """
    files, labels = [], {}
    missing = dict(known)
    for file in sorted(file for file in found if not file.name.startswith(".")):
        label = missing.pop(file.stem, None)
        if label is None:
            again = file.stem in known
            label = Label(problem="a second file of this name" if again else f"no row in {table}")
        files.append(file)
        labels[file.relative_to(root).as_posix()] = label
    for stem, label in missing.items():
        files.append(file := absent(stem))
        labels[file.relative_to(root).as_posix()] = label
    return files, labels
