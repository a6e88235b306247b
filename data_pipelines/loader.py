"""Shards in, batches of clips or of crops out: shuffled, masked, and exactly resumable (grain).

A clip's window, augmentation and mask depend on (seed, epoch, record) alone, so neither the number
of threads, nor of hosts, nor a restart changes them; so do the crops and masks of an image.
"""

import dataclasses
import os
import sys
from types import ModuleType

import cv2
import grain
import numpy as np

from data_pipelines import clip_batch, crop_batch, mixture, shards
from data_pipelines.augment import NONE
from data_pipelines.bad_records import BadRecord, BadRecords, most
from data_pipelines.clip_source import ClipSource
from data_pipelines.loader_config import Batch, LoaderConfig
from data_pipelines.order import RecordOrder
from echofm_jax.errors import InputError


def check(cfg: LoaderConfig, info: shards.DatasetInfo, process_count: int) -> None:
    """Refuse, as InputError, shapes that do not fit each other, the hosts or the data set."""
    together = process_count * cfg.windows_per_record
    if cfg.batch_size < 1 or cfg.batch_size % together:
        windows = f" of {cfg.windows_per_record} windows a record" * (cfg.windows_per_record > 1)
        raise InputError(
            f"batch size {cfg.batch_size}: {process_count} host(s){windows} cannot share it: "
            f"choose a multiple of {together}"
        )
    kind(cfg).check(cfg, info)


def kind(cfg: LoaderConfig) -> ModuleType:
    """The module that checks, makes room for and reads what batches hold: clips, or crops."""
    return clip_batch if cfg.crops is None else crop_batch


class Loader:
    """An iterator of a host's batches; `make_loader` makes it and says what they hold.

    Each thread fills one batch at a time, decoding into its place there.
    """

    def __init__(self, cfg: LoaderConfig, source: ClipSource, share: int, shares: int):
        self.cfg, self.source, self.share, self.shares = cfg, source, share, shares
        self.kind = kind(cfg)
        self.order = RecordOrder(source.sizes, cfg.seed, cfg.shuffle, source.weights)
        for part, quota in zip(source.parts, self.order.quotas, strict=True):
            if not quota and cfg.shuffle:
                raise InputError(
                    f"{part.data_dir}: its weight gives it none of an epoch's {len(source)} clips: "
                    "raise it or leave the part out"
                )
        self.step = cfg.batch_size // cfg.windows_per_record  # records in a global batch
        self.last = sys.maxsize if cfg.num_epochs is None else cfg.num_epochs * len(source)
        self.bad = BadRecords(cfg.max_bad_records, len(source))
        self.position, self._batches = 0, None

    @property
    def bad_records(self) -> int:
        """How often this process was due to read a record that it could not, so far."""
        return self.bad.count

    def most_bad(self, batches: int) -> float:
        """How many bad records all processes together may have met in so many global batches."""
        return most(self.cfg.max_bad_records, len(self.source), batches * self.step)

    def get_state(self) -> dict[str, int]:
        """Records of the stream before the next batch, of all hosts."""
        return {"global_next_index": self.position}

    def set_state(self, state: dict[str, int]) -> None:
        """Continue where a loader with this state, on any number of hosts, would."""
        self.close()
        self.position = state["global_next_index"]

    def close(self) -> None:
        """Stop the threads."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            threads = self.cfg.workers or min(len(os.sched_getaffinity(0)), 8)
            ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
            starts = grain.MapDataset.range(self.position, self.last, self.step)
            self._batches = iter(starts.map(self._batch).to_iter_dataset(ahead))
        batch = next(self._batches)
        self.position += self.step
        return batch

    def _batch(self, start: int) -> Batch:
        """The host's share of the records that begin at `start`."""
        positions = range(int(start) + self.share, int(start) + self.step, self.shares)
        colour = self.source.parts[0].info.colour
        pixels = self.kind.empty(self.cfg, len(positions), colour)  # of [records, k, …]
        about, bad = [], 0
        for i, position in enumerate(positions):
            found, good = self._read(position, {name: whole[i] for name, whole in pixels.items()})
            bad += not good
            valid = np.bool_(good and position < self.last)
            about += [one | {"valid": valid} for one in found]
        self.bad.slots(len(positions), bad)
        rest = {key: np.stack([one[key] for one in about]) for key in about[0]}
        joined = {
            name: whole.reshape(len(about), *whole.shape[2:]) for name, whole in pixels.items()
        }
        return joined | rest

    def _read(self, position: int, out: Batch) -> tuple[list[Batch], bool]:
        """What a position holds, its pixels in `out`; and whether of the record that was due."""
        due = index = self.order(position)
        while True:
            if index not in self.bad.known:
                # Keyed by the position in the stream, which the seed ties to an epoch and a record;
                # the order of the records draws from three numbers.
                rng = np.random.default_rng((self.cfg.seed, position, 0, 1))
                try:
                    return self.kind.read(self.source[index], rng, self.cfg, out), index == due
                except BadRecord as error:
                    if not self.cfg.max_bad_records:
                        raise
                    self.bad.tell(index, error)
            index = (index + 1) % len(self.source)
            if index == due:
                raise InputError(f"no record of split '{self.cfg.split}' can be read: ingest again")


def make_loader(cfg: LoaderConfig, *, process_index: int = 0, process_count: int = 1) -> Loader:
    """The host's iterator of batches, of b = batch_size / process_count clips or images each.

    A batch holds `clip` [b, T, H, W] uint8 ([b, T, H, W, 3] where the data set is in colour),
    `noise` [b, *noise_shape] float32, `fps` [b] float32 (samples a second in the window, 0 =
    unknown), `index` [b] int64 (the record in its split) and `valid` [b] bool (False for the clips
    that fill up the last batch of `num_epochs`, and for those that stand in for a bad record).
    With `crops` it holds, instead of the first three, `global` [b, 2, S, S(, 3)] uint8 and `local`
    [b, n, s, s(, 3)] uint8, crops of one frame or of two; `mask` [b, 2, N] bool, True = masked, of
    at most `crop_masks.most_masked` patches of each image; and `seed` [b] uint32, for what is drawn
    on the device. `index` and `valid` are as before.
    With `labels` also what `clip_labels` gives of each clip, stacked: phases, view, ejection
    fraction, measurements, grades, and which frames of the record are shown.

    Batches run on over the end of an epoch, so each record comes exactly once an epoch, with
    `windows_per_record` clips that lie side by side, and a data set may be smaller than the batch.
    In a weighted mixture each part has its exact share of an epoch (`RecordOrder`). `get_state()`
    is one integer, equal on every host, and `set_state()` continues exactly, on another number of
    hosts too: the same clips come in each global batch, in another order.

    A record that cannot be read is told on standard error and counted; the next good one of the
    split stands in for it, so all others still come exactly once. If more than `max_bad_records`
    of an epoch are bad, iterating ends with an error.

    Memory: at most 2 × (workers + 1) host batches.

    Raises:
      InputError: a batch that the hosts cannot share, crops that make no sense, a data set that is
        missing, empty, cut short, or smaller in pixels than `size` or than a crop; while
        iterating: bad records.
    """
    if not cfg.shuffle:
        cfg = dataclasses.replace(cfg, windows_per_record=1, augment=NONE)
    check(cfg, mixture.dataset_info(cfg.data_dir), process_count)
    source = ClipSource(cfg.data_dir, cfg.split, cfg.cache_dir)
    cv2.setNumThreads(1)  # the loader's own threads fill the cores
    return Loader(cfg, source, process_index, process_count)
