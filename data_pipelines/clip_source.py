"""The records of one split, opened so that reading one costs no more than it must."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import shards
from echofm_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Record:
    """One segment, its frames still encoded. See `records.FEATURES` for what each key holds."""

    index: int
    example: tf_example_pb2.Example

    def bytes_list(self, key: str) -> Sequence[bytes]:
        """The byte strings of a feature; each is copied out of the record when it is indexed."""
        return self.example.features.feature[key].bytes_list.value

    def floats(self, key: str) -> np.ndarray:
        """A float feature, [n] float32, empty where the record has none."""
        return np.array(self.example.features.feature[key].float_list.value, np.float32)


class ClipSource:
    """A split as a grain data source: `source[i]` is a `Record`.

    TFDS's own `__getitem__` turns every frame of the record into an object, which costs half as
    much as decoding a window; here the record is parsed and only the frames asked for are copied.
    """

    def __init__(self, data_dir: str, split: str):
        self.split = split
        self._serialized = shards.open_split(data_dir, split).data_source
        # glibc maps and unmaps every block above a threshold, and the page faults of a fresh
        # 1 MB record cost six times its reading. Freeing one larger block raises the threshold.
        np.empty(31 << 20, np.uint8)

    def __len__(self) -> int:
        return len(self._serialized)

    def __getitem__(self, index: int) -> Record:
        """Read one record. Raises InputError if the shard is damaged there."""
        try:
            example = tf_example_pb2.Example.FromString(self._serialized[index])
        except Exception as error:  # array_record and protobuf each have their own; both name paths
            raise InputError(
                f"split '{self.split}': record {index} cannot be read: the shard is damaged, "
                "ingest its source again"
            ) from error
        return Record(index, example)
