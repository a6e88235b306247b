"""Which records of a split show a view, in a mode: found by reading it once, then kept beside it.

The index holds words of fixed vocabularies only. Where the data set's folder cannot be written it
is made again by every process.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import shards

log = logging.getLogger(__name__)


def chosen_records(
    data_dir: str, split: str, views: Sequence[str], modes: Sequence[str]
) -> np.ndarray:
    """Numbers of the records of some views and modes, ascending [n] int64; no names mean all."""
    found = _index(data_dir, split)
    keep = np.ones(len(found["view"]), bool)
    for key, names in (("view", views), ("mode", modes)):
        if names:
            keep &= np.isin(found[key], names)
    return np.flatnonzero(keep)


@functools.lru_cache
def _index(data_dir: str, split: str) -> dict[str, np.ndarray]:
    """{view, mode: [records] of text}; kept only as long as the shards are those it was made of."""
    files = shards.split_files(data_dir, split)
    made_of = np.array([f"{path.name} {path.stat().st_size}" for path, _ in files])
    path = shards.dataset_folder(data_dir) / f"index-{split}.npz"
    with contextlib.suppress(OSError, ValueError, KeyError), np.load(path) as stored:
        if np.array_equal(stored["made_of"], made_of):
            return {key: stored[key] for key in ("view", "mode")}
    log.warning("looking for views and modes in split '%s': once, it reads all of it", split)
    rows = []
    for file, count in files:
        reader = ArrayRecordReader(str(file))
        rows += [_view_and_mode(reader, number) for number in range(count)]
    view, mode = np.array(rows).T
    half = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a folder that is not ours to write
        with half.open("wb") as file:
            np.savez_compressed(file, made_of=made_of, view=view, mode=mode)
        half.replace(path)
    return {"view": view, "mode": mode}


def _view_and_mode(reader: ArrayRecordReader, number: int) -> tuple[str, str]:
    try:
        feature = tf_example_pb2.Example.FromString(reader.read([number])[0]).features.feature
        view, mode = (feature[key].bytes_list.value[0].decode() for key in ("view", "mode"))
    except Exception:  # a damaged record is of no view and no mode
        return "damaged", "damaged"
    return view, mode
