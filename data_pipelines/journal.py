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
from data_pipelines.shards import SPLITS
from echofm_jax.errors import InputError

HASHED = ("salt", "source")  # settings that are known by a hash
# What reading a damaged file raises, beside what the disk does.
BROKEN = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
OURS = ("settings.json", "files-*.jsonl", "staged")


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
        write_whole(self.folder / list_name(len(self.lists)), lines)
        self.lists.append(entries)
        self.latest |= {entry.name: entry for entry in entries}


@contextlib.contextmanager
def open_journal(data_dir: Path, settings: Mapping, *, overwrite: bool) -> Iterator[Journal]:
    """The journal of a data set, locked; a new one if there is none, or nothing in it.

    If what is done with it fails before there is something in it, it goes again: other settings
    are free.

    Args:
      settings: what this run would do; a journal of other settings is refused.
      overwrite: forget what earlier runs did.

    Raises:
      InputError: other settings, another ingest at work, damage, or files that are not its own.
    """
    folder = journal_folder(data_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another ingest is writing {data_dir}: wait until it ends") from None
        if overwrite or not is_begun(folder):
            refuse_others(folder)
            clear(folder)
        try:
            yield Journal(folder, read_settings(folder, data_dir, settings), read_lists(folder))
        except BaseException:
            if not is_begun(folder):
                with contextlib.suppress(OSError):  # the error that brought us here says more
                    clear(folder)
                    folder.rmdir()
            raise
    finally:
        os.close(lock)


def is_begun(folder: Path) -> bool:
    """Whether there is a journal, and a file has been worked on.

    Lists without settings are the rest of a removed one.
    """
    staged = (folder / "staged").rglob("*")
    return (folder / "settings.json").exists() and (
        any(folder.glob("files-*.jsonl")) or any(path.is_file() for path in staged)
    )


def ours(folder: Path) -> list[Path]:
    """What a journal consists of, settings first; a file that was not finished bears a dot."""
    return [path for name in OURS for dot in ("", ".") for path in folder.glob(dot + name)]


def refuse_others(folder: Path) -> None:
    """Raises InputError if something lies there that is no journal's: it would be lost."""
    if set(folder.iterdir()) - set(ours(folder)):
        raise InputError(
            f"{folder} is where the journal goes, and holds other files: move them, or give "
            "another --data_dir"
        )


def clear(folder: Path) -> None:
    """Remove a journal and leave the folder."""
    for path in ours(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def read_settings(folder: Path, data_dir: Path, wanted: Mapping) -> dict:
    """The journal's settings, with the id of its build; written if there are none."""
    path = folder / "settings.json"
    if not path.exists():
        # What is not the user's choice stays as it was when the data set began.
        write_whole(path, [json.dumps(wanted | {"build": uuid.uuid4().hex}, indent=2)])
    try:
        held = json.loads(path.read_text())
        sound = type(held["build"]) is str and type(held["shard_bytes"]) is int
    except BROKEN:
        sound = False
    if not sound:
        raise damaged(path)
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
    found = []
    for number, path in enumerate(paths):
        if path.name != list_name(number):  # the next list would take the place of another
            raise damaged(path)
        try:
            found.append([parse(line) for line in path.read_text().splitlines()])
        except BROKEN:
            raise damaged(path) from None
    return found


def list_name(number: int) -> str:
    """The file of a list."""
    return f"files-{number:05d}.jsonl"


def parse(line: str) -> Entry:
    """A line of a list; raises one of BROKEN."""
    values = json.loads(line)
    values["sizes"] = tuple(values["sizes"])
    entry = Entry(values.pop("name"), values.pop("key"), Outcome(**values))
    kinds = [type(value) for value in ("", "", *Outcome())]
    if [type(value) for value in (entry.name, entry.key, *entry.outcome)] != kinds:
        raise ValueError("a value of another kind")
    if not entry.outcome.reason and entry.outcome.split not in SPLITS:
        raise ValueError("no split")
    return entry


def damaged(path: Path) -> InputError:
    """What the user is told of a file of the journal that no run wrote like that."""
    return InputError(
        f"the journal {path.parent} is damaged ({path.name}): start afresh with --overwrite, which "
        "works on every file again"
    )


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
