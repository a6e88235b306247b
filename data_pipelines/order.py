"""The order in which records come: a new permutation every epoch, the same on every host."""

import functools

import numpy as np


class RecordOrder:
    """Position in the endless stream of clips → record; each record exactly once an epoch.

    Grain's own `shuffle` walks a cycle of at least 65,536 positions until it meets one inside the
    data set, which in a set of 50 clips costs 0.6 ms a clip; a table costs nothing there and
    8 bytes a record in a large one.
    """

    def __init__(self, num_records: int, seed: int, shuffle: bool):
        self.num_records = num_records
        self.seed = seed
        self.shuffle = shuffle
        self._permutation = functools.lru_cache(maxsize=2)(self._draw)  # batches span two epochs

    def __call__(self, position: int) -> int:
        """The record at a position of the stream."""
        epoch, step = divmod(int(position), self.num_records)
        return int(self._permutation(epoch)[step]) if self.shuffle else step

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(self.num_records)
