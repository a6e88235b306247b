"""What a data set holds and how it came about: the memory of `echofm ingest` between its runs.

    DATA_DIR-ingest/  settings.json        what all runs on this data set must agree on
                      files-00000.jsonl    an outcome for every file of the first run, in order
                      files-00001.jsonl    … of the files that the next run found
                      staged/              what was made of files and is in no shard yet

Files are known by salted hashes alone. A list is written when all its files have been worked on
and never changes again: from then on every shard is decided.
"""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipelines.one_file import Outcome, Task
from data_pipelines.places import journal_folder
from echofm_jax.errors import InputError

HASHED = ("salt", "source")  # settings that are known by a hash


class Entry(NamedTuple):
    """A file by its hashes (see `Task`), and what became of it."""

    name: str
    key: str
    outcome: Outcome


class Journal:
    """The lists of files so far. One process at a time holds it."""

    def __init__(self, folder: Path, settings: Mapping, lists: list[list[Entry]]):
        self.folder, self.settings, self.lists = folder, settings, lists
        self.staged = folder / "staged"
        self.latest = {entry.name: entry for entries in lists for entry in entries}

    @property
    def accepted(self) -> list[Entry]:
        """Whatever is in the data set, in order."""
        return [e for entries in self.lists for e in entries if not e.outcome.reason]

    def wants(self, task: Task) -> bool:
        """Whether the file is new, or was of no use and may be now."""
        old = self.latest.get(task.name)
        if old is None:
            return True
        return bool(old.outcome.reason) and (old.key != task.key or old.outcome.retried)

    def changed(self, task: Task) -> bool:
        """Whether the data set holds the file as it no longer is."""
        old = self.latest.get(task.name)
        return old is not None and not old.outcome.reason and old.key != task.key

    def append(self, entries: Sequence[Entry]) -> None:
        """Decide on these files for good."""
        entries = [entry for entry in entries if self.latest.get(entry.name) != entry]
        if not entries:
            return
        lines = (
            json.dumps({"name": e.name, "key": e.key} | e.outcome._asdict()) + "\n" for e in entries
        )
        write_whole(self.folder / f"files-{len(self.lists):05d}.jsonl", lines)
        self.lists.append(entries)
        self.latest |= {entry.name: entry for entry in entries}


@contextlib.contextmanager
def open_journal(data_dir: Path, settings: Mapping, *, overwrite: bool) -> Iterator[Journal]:
    """The journal of a data set, locked; a new one if there is none.

    Args:
      settings: what this run would do; a journal of other settings is refused.
      overwrite: forget what earlier runs did.

    Raises:
      InputError: other settings, another ingest at work, or no way to write there.
    """
    folder = journal_folder(data_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another ingest is writing {data_dir}: wait until it ends") from None
        if overwrite:
            (folder / "settings.json").unlink(missing_ok=True)
        if not (folder / "settings.json").exists():  # lists alone are the rest of a removed journal
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield Journal(folder, read_settings(folder, data_dir, settings), read_lists(folder))
    finally:
        os.close(lock)


def read_settings(folder: Path, data_dir: Path, wanted: Mapping) -> dict:
    """The journal's settings, with the id of its build; written if there are none."""
    path = folder / "settings.json"
    if not path.exists():
        # What is not the user's choice stays as it was when the data set began.
        write_whole(path, [json.dumps(wanted | {"build": uuid.uuid4().hex}, indent=2)])
    held = json.loads(path.read_text())
    told = [key for key, value in wanted.items() if held.get(key) != value and key != "shard_bytes"]
    if "salt" in told and "source" in told:  # with another salt, no source looks the same
        told.remove("source")
    if told:
        differ = ", ".join(
            f"another {key}" if key in HASHED else f"{key} {held.get(key)!r}, not {wanted[key]!r}"
            for key in told
        )
        raise InputError(
            f"{data_dir} was begun with other settings ({differ}): keep to them, give another "
            "--data_dir, or --overwrite"
        )
    return held


def read_lists(folder: Path) -> list[list[Entry]]:
    """All lists of files, oldest first."""
    paths = sorted(folder.glob("files-*.jsonl"))
    return [[parse(line) for line in path.read_text().splitlines()] for path in paths]


def parse(line: str) -> Entry:
    """A line of a list."""
    values = json.loads(line)
    values["sizes"] = tuple(values["sizes"])
    return Entry(values.pop("name"), values.pop("key"), Outcome(**values))


def write_whole(path: Path, lines) -> None:
    """A file that is there with all its lines or not at all, after a power cut too."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
