"""Shards in, batches of clips out: shuffled, windowed, masked, and exactly resumable (grain).

A clip's window, augmentation and mask depend on (seed, epoch, record) alone, so neither the number
of threads, nor of hosts, nor a restart changes them.
"""

import dataclasses
import os
import sys

import cv2
import grain
import numpy as np

from data_pipelines import mixture, records, shards
from data_pipelines.augment import NONE, Augment, augment_clip, draw_duration
from data_pipelines.bad_records import BadRecord, BadRecords, most
from data_pipelines.clip_labels import clip_labels
from data_pipelines.clip_source import ClipSource, Record
from data_pipelines.decode import decode_frames
from data_pipelines.mask_noise import mask_noise
from data_pipelines.order import RecordOrder
from data_pipelines.window import choose_frames, frame_times
from echofm_jax.errors import InputError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """What to load. `batch_size` is global: each of the hosts yields its share of it."""

    data_dir: str  # of a data set, or a mixture's file (`mixture`)
    batch_size: int
    split: str = "train"
    frames: int = 32
    size: int = 224
    tubelet: int = 4
    patch: int = 16
    window_seconds: float = 0.0  # 0 = consecutive frames, as the paper
    assumed_fps: float = 30.0  # for clips whose frame rate is not known
    windows_per_record: int = 1  # clips from each reading of a record
    augment: Augment = NONE
    masking: str = "consistent"  # one of echofm_jax.masking.KINDS
    seed: int = 0
    shuffle: bool = True  # False: the split's order, one central window a record, not augmented
    num_epochs: int | None = None  # None = for ever
    labels: bool = False  # adds those of `clip_labels`
    max_bad_records: float = 0.0  # share of an epoch; 0: the first one is an error
    cache_dir: str = ""  # for copies of the shards
    workers: int = 0  # decoding threads; 0 = one a core, at most 8


def check(cfg: LoaderConfig, info: shards.DatasetInfo, process_count: int) -> None:
    """Refuse, as InputError, shapes that do not fit each other, the hosts or the data set."""
    together = process_count * cfg.windows_per_record
    if cfg.batch_size < 1 or cfg.batch_size % together:
        windows = f" of {cfg.windows_per_record} windows a record" * (cfg.windows_per_record > 1)
        raise InputError(
            f"batch size {cfg.batch_size}: {process_count} host(s){windows} cannot share it: "
            f"choose a multiple of {together}"
        )
    if cfg.frames % cfg.tubelet:
        raise InputError(
            f"{cfg.frames} frames: not divisible by the tubelet's {cfg.tubelet}: "
            f"choose a multiple of {cfg.tubelet}"
        )
    if cfg.size % cfg.patch:
        raise InputError(
            f"size {cfg.size}: not divisible by the patch's {cfg.patch}: "
            f"choose a multiple of {cfg.patch}"
        )
    if cfg.size > info.size:
        raise InputError(
            f"size {cfg.size}: {cfg.data_dir} stores frames of {info.size} pixels: "
            f"choose at most {info.size}, or ingest again with a larger size"
        )


def read_clips(
    record: Record, rng: np.random.Generator, cfg: LoaderConfig, out: np.ndarray
) -> list[Batch]:
    """The record's k windows decoded into `out` [k, T, size, size(, 3)]; all else about each.

    Keys and shapes are `make_loader`'s without b. A frame that several windows show is decoded
    once. Raises BadRecord if a frame cannot be decoded.
    """
    fps = float(record.floats("fps")[0])
    num_frames = len(record.bytes_list("frames"))
    if num_frames == 1 and not cfg.labels:
        raise InputError(
            "the data set holds stills: pre-training needs clips; stills are for fine-tuning"
        )
    times, window = np.arange(num_frames), float(cfg.frames)
    if cfg.window_seconds:
        times = frame_times(record.floats("times"), num_frames, cfg.assumed_fps)
        window, fps = cfg.window_seconds, cfg.frames / cfg.window_seconds if fps else 0
    windows, rates = [], []
    for _ in out:
        duration = draw_duration(rng, cfg.augment)
        start = rng if cfg.shuffle else None
        windows.append(choose_frames(times, cfg.frames, window * duration, start))
        rates.append(fps / duration)
    decode_window(record, np.concatenate(windows), cfg, out.reshape(-1, *out.shape[2:]))

    packed = record.bytes_list("sector")[0]
    sector = records.unpack_sector(packed, record.info.size) if packed else None
    if sector is not None and cfg.augment != NONE:
        sector = resized(sector, cfg.size)
    steps, grid = cfg.frames // cfg.tubelet, cfg.size // cfg.patch
    clips = []
    for clip, frame_index, rate in zip(out, windows, rates, strict=True):
        inside = augment_clip(clip, sector, rng, cfg.augment)
        about = {
            "noise": mask_noise(cfg.masking, steps, grid, inside, rng),
            "fps": np.float32(rate),
            "index": np.int64(record.index),
        }
        clips.append(about | (clip_labels(record, frame_index) if cfg.labels else {}))
    return clips


def resized(sector: np.ndarray, size: int) -> np.ndarray:
    """A sector [S, S] at another size, [size, size] bool: pixels whose larger part is inside."""
    share = cv2.resize(sector.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return share >= 0.5


def decode_window(
    record: Record, frame_index: np.ndarray, cfg: LoaderConfig, out: np.ndarray | None = None
) -> np.ndarray:
    """`decode_frames` at the loader's size."""
    return decode_frames(record, frame_index, cfg.size, out)


class Loader:
    """An iterator of a host's batches; `make_loader` makes it and says what they hold.

    Each thread fills one batch at a time, decoding into its place there.
    """

    def __init__(self, cfg: LoaderConfig, source: ClipSource, share: int, shares: int):
        self.cfg, self.source, self.share, self.shares = cfg, source, share, shares
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
        cfg, k = self.cfg, self.cfg.windows_per_record
        positions = range(int(start) + self.share, int(start) + self.step, self.shares)
        colour = (3,) if self.source.parts[0].info.colour else ()
        shape = (len(positions), k, cfg.frames, cfg.size, cfg.size, *colour)
        out = np.empty(shape, np.uint8)
        clips, bad = [], 0
        for position, windows in zip(positions, out, strict=True):
            found, good = self._read(position, windows)
            bad += not good
            valid = np.bool_(good and position < self.last)
            clips += [clip | {"valid": valid} for clip in found]
        self.bad.slots(len(positions), bad)
        rest = {key: np.stack([clip[key] for clip in clips]) for key in clips[0]}
        return {"clip": out.reshape(-1, *shape[2:])} | rest

    def _read(self, position: int, out: np.ndarray) -> tuple[list[Batch], bool]:
        """The clips of a position, and whether they are of the record that was due there."""
        due = index = self.order(position)
        while True:
            if index not in self.bad.known:
                # Keyed by the position in the stream, which the seed ties to an epoch and a record;
                # the order of the records draws from three numbers.
                rng = np.random.default_rng((self.cfg.seed, position, 0, 1))
                try:
                    return read_clips(self.source[index], rng, self.cfg, out), index == due
                except BadRecord as error:
                    if not self.cfg.max_bad_records:
                        raise
                    self.bad.tell(index, error)
            index = (index + 1) % len(self.source)
            if index == due:
                raise InputError(f"no record of split '{self.cfg.split}' can be read: ingest again")


def make_loader(cfg: LoaderConfig, *, process_index: int = 0, process_count: int = 1) -> Loader:
    """The host's iterator of batches, of b = batch_size / process_count clips each.

    A batch holds `clip` [b, T, H, W] uint8 ([b, T, H, W, 3] where the data set is in colour),
    `noise` [b, *noise_shape] float32, `fps` [b] float32 (samples a second in the window, 0 =
    unknown), `index` [b] int64 (the record in its split) and `valid` [b] bool (False for the clips
    that fill up the last batch of `num_epochs`, and for those that stand in for a bad record).
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
      InputError: a batch that the hosts cannot share, a data set that is missing, empty, cut
        short, or smaller in pixels than `size`; while iterating: bad records.
    """
    if not cfg.shuffle:
        cfg = dataclasses.replace(cfg, windows_per_record=1, augment=NONE)
    check(cfg, mixture.dataset_info(cfg.data_dir), process_count)
    source = ClipSource(cfg.data_dir, cfg.split, cfg.cache_dir)
    cv2.setNumThreads(1)  # the loader's own threads fill the cores
    return Loader(cfg, source, process_index, process_count)
