"""Which records of a split show a view, in a mode: found by reading it once, then kept beside it.

`index-SPLIT.json` holds names and sizes of shards, and numbers that stand for words of
`records.VIEWS` and `records.MODES`. The same records make the same bytes, which the privacy audit
compares. Where the data set's folder cannot be written it is made again by every process.
"""

import contextlib
import functools
import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import records, shards
from data_pipelines.shard_files import PAUSES, open_shard

log = logging.getLogger(__name__)

Row = tuple[int, int]  # view and mode of a record
NEITHER: Row = (-1, -1)  # what a record shows that cannot be read


def chosen_records(
    data_dir: str, split: str, views: Sequence[str], modes: Sequence[str]
) -> np.ndarray:
    """Numbers of the records of some views and modes, ascending [n] int64; no names mean all."""
    rows = _index(data_dir, split)
    keep = np.ones(len(rows), bool)
    for column, names, words in ((0, views, records.VIEWS), (1, modes, records.MODES)):
        if names:
            keep &= np.isin(rows[:, column], [words.index(name) for name in names])
    return np.flatnonzero(keep)


def index_path(folder: Path, split: str) -> Path:
    """Where the index of a split is kept, in the folder of its shards."""
    return folder / f"index-{split}.json"


def as_bytes(sizes: Mapping[str, int], rows: Sequence[Row] | np.ndarray) -> bytes:
    """The index as it is stored: of shards {name: bytes} with these rows, in stored order."""
    view, mode = np.reshape(np.array(rows, int), (-1, 2)).T.tolist()
    held = {"shards": dict(sizes), "view": view, "mode": mode}
    # What a number means may change from version to version: then it is no index any more.
    meaning = json.dumps([records.VIEWS, records.MODES, held], sort_keys=True)
    digest = hashlib.sha256(meaning.encode()).hexdigest()
    return (json.dumps(held | {"sha256": digest}, sort_keys=True) + "\n").encode()


def row(data: bytes) -> Row:
    """View and mode of a serialized record, -1 for what is no word of ours.

    Raises whatever its damage raises.
    """
    feature = tf_example_pb2.Example.FromString(data).features.feature
    words = ((feature["view"], records.VIEWS), (feature["mode"], records.MODES))
    held = [(held.bytes_list.value[0].decode(errors="replace"), known) for held, known in words]
    view, mode = (known.index(word) if word in known else -1 for word, known in held)
    return view, mode


@functools.lru_cache
def _index(data_dir: str, split: str) -> np.ndarray:
    """[records, 2] int: the rows of a split, kept if all of it can be read."""
    files = shards.split_files(data_dir, split)
    sizes = {path.name: path.stat().st_size for path, _ in files}
    path = index_path(shards.dataset_folder(data_dir), split)
    if (kept := _kept(path, sizes)) is not None:
        return kept
    log.warning("looking for views and modes in split '%s': once, it reads all of it", split)
    found = [row for file, count in files for row in _rows(file, count)]
    if None not in found:
        # Whoever else writes the same name at the same time writes the same bytes, and what is
        # only half there is no index.
        half = path.with_name(f".{path.name}")
        with contextlib.suppress(OSError):  # a folder that is not ours to write
            half.write_bytes(as_bytes(sizes, found))
            half.replace(path)
    return np.array([row or NEITHER for row in found], int)


def _kept(path: Path, sizes: Mapping[str, int]) -> np.ndarray | None:
    """The rows that are kept, if they are whole and of these shards."""
    try:
        data = path.read_bytes()
        stored = json.loads(data)
        rows = np.array([stored["view"], stored["mode"]], int).T
        return rows if as_bytes(sizes, rows) == data else None
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _rows(path: Path, count: int) -> list[Row | None]:
    """The rows of a shard; what cannot be read is tried again, and then None."""
    rows: list[Row | None] = [None] * count
    for pause in (0, *PAUSES):
        time.sleep(pause)
        with contextlib.suppress(Exception):  # as it raises whatever its damage raises
            reader = open_shard(path)
            for number in (number for number, known in enumerate(rows) if known is None):
                with contextlib.suppress(Exception):
                    rows[number] = row(reader.read([number])[0])
        if None not in rows:
            break
    return rows
