"""The records of one split, opened so that reading one costs no more than it must."""

import bisect
import contextlib
import dataclasses
import itertools
import resource
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import mixture, shards
from data_pipelines.bad_records import BadRecord
from data_pipelines.memory import keep_freed_blocks
from data_pipelines.shard_cache import cached
from data_pipelines.shard_files import PAUSES
from echofm_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Record:
    """One segment, its frames still encoded. See `records.FEATURES` for what each key holds."""

    index: int  # in its split, through all parts of a mixture
    example: tf_example_pb2.Example
    info: shards.DatasetInfo  # of the data set that holds it
    place: str = ""  # shard and number, for messages

    def bytes_list(self, key: str) -> Sequence[bytes]:
        """The byte strings of a feature; each is copied out of the record when it is indexed."""
        return self.example.features.feature[key].bytes_list.value

    def floats(self, key: str) -> np.ndarray:
        """A float feature, [n] float32, empty where the record has none."""
        return np.array(self.example.features.feature[key].float_list.value, np.float32)

    def integers(self, key: str) -> np.ndarray:
        """An integer feature, [n] int32, empty where the record has none."""
        return np.array(self.example.features.feature[key].int64_list.value, np.int32)


class ClipSource:
    """A split as a random-access source: `source[i]` is a `Record`.

    TFDS's own `__getitem__` turns every frame of the record into an object, which costs half as
    much as decoding a window; here the record is parsed and only the frames asked for are copied.
    """

    def __init__(self, data_dir: str, split: str, cache_dir: str = ""):
        """Open a data set or a mixture; with `cache_dir` from copies (see `shard_cache`).

        Raises:
          InputError: nothing of the split is there, or a shard is missing or cut short.
        """
        parts = mixture.parts_of(data_dir)
        there = [split in shards.dataset_info(part.data_dir).records for part in parts]
        if any(there):
            parts = list(itertools.compress(parts, there))
        self.split = split
        counts = [part.count(split) for part in parts]
        for part, count in zip(parts, counts, strict=True):
            # To train on nothing of a part is a mistake; held out, another part may have some.
            if not count and (split == "train" or not any(counts)):
                asked = " or ".join(part.views) or "any", " or ".join(part.modes) or "any"
                raise InputError(
                    f"{part.data_dir}: no record of split '{split}' has view {asked[0]} and mode "
                    f"{asked[1]}: ask for others"
                )
        parts = list(itertools.compress(parts, counts))
        self.parts = [_OpenPart(part, split, cache_dir) for part in parts]
        self.sizes = [len(part) for part in self.parts]
        weights = [part.weight if split == "train" else None for part in parts]
        self.weights = None if None in weights else weights
        self._ends = np.cumsum(self.sizes).tolist()
        keep_freed_blocks()
        # Every shard stays open: a large data set has more of them than the usual limit.
        with contextlib.suppress(OSError, ValueError):
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        """Read one record. Raises BadRecord, an InputError, if the shard is damaged there."""
        part = bisect.bisect_right(self._ends, index)
        return self.parts[part].read(index, index - (self._ends[part] - self.sizes[part]))


class _OpenPart:
    """One part's shards, opened when they are first read."""

    def __init__(self, part: mixture.Part, split: str, cache_dir: str):
        self.data_dir, self.split = part.data_dir, split
        self.info = shards.dataset_info(part.data_dir)
        files = shards.split_files(part.data_dir, split)
        self.names = [path.name for path, _ in files]
        self.files = cached([path for path, _ in files], cache_dir)
        self.starts = [0, *itertools.accumulate(count for _, count in files)]
        self.chosen = part.chosen(split)
        self.readers: list = [None] * len(files)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.starts[-1] if self.chosen is None else len(self.chosen)

    def read(self, index: int, number: int) -> Record:
        """The part's record `number`, which is `index` in the split."""
        stored = number if self.chosen is None else int(self.chosen[number])
        shard = bisect.bisect_right(self.starts, stored) - 1
        stored -= self.starts[shard]
        place = f"split '{self.split}': shard {self.names[shard]}, record {stored}"
        for pause in PAUSES:
            try:
                return Record(index, self._parse(shard, stored), self.info, place)
            except Exception:
                self.readers[shard] = None  # a failed one may stay so
                time.sleep(pause)
        try:
            return Record(index, self._parse(shard, stored), self.info, place)
        except Exception as error:  # array_record and protobuf have their own, which name paths
            raise BadRecord(
                f"{place} cannot be read: the shard is damaged, ingest its source again"
            ) from error

    def _parse(self, shard: int, number: int) -> tf_example_pb2.Example:
        return tf_example_pb2.Example.FromString(self._reader(shard).read([number])[0])

    def _reader(self, shard: int) -> ArrayRecordReader:
        reader = self.readers[shard]
        if reader is None:
            with self._lock:  # else every thread opens it
                reader = self.readers[shard] or open_shard(self.files[shard])
                self.readers[shard] = reader
        return reader


def open_shard(path: Path) -> ArrayRecordReader:
    """A reader for records in any order, as `ArrayRecordDataSource` sets it."""
    return ArrayRecordReader(
        str(path), options="readahead_buffer_size:0", file_reader_buffer_size=32768
    )
