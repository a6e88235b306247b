"""Shards in, batches of clips out: shuffled, windowed, masked, and exactly resumable (grain).

A clip's window and mask depend on (seed, epoch, record) alone, so neither the number of threads,
nor of hosts, nor a restart changes them.
"""

import dataclasses
import functools
import os
import sys

import cv2
import grain
import numpy as np

from data_pipelines import records, shards
from data_pipelines.clip_source import ClipSource, Record
from data_pipelines.mask_noise import mask_noise
from data_pipelines.order import RecordOrder
from data_pipelines.window import choose_frames, frame_times
from echofm_jax.errors import InputError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """What to load. `batch_size` is global: each of the hosts yields its share of it."""

    data_dir: str
    batch_size: int
    split: str = "train"
    frames: int = 32
    size: int = 224
    tubelet: int = 4
    patch: int = 16
    window_seconds: float = 0.0  # 0 = consecutive frames, as the paper
    assumed_fps: float = 30.0  # for clips whose frame rate is not known
    masking: str = "consistent"  # one of echofm_jax.masking.KINDS
    seed: int = 0
    shuffle: bool = True  # False: the split's order and each clip's central window
    num_epochs: int | None = None  # None = for ever
    labels: bool = False  # adds what evaluation compares with
    workers: int = 0  # decoding threads; 0 = one a core, at most 8


def check(cfg: LoaderConfig, info: shards.DatasetInfo, process_count: int) -> None:
    """Refuse, as InputError, shapes that do not fit each other, the hosts or the data set."""
    if cfg.batch_size < 1 or cfg.batch_size % process_count:
        raise InputError(
            f"batch size {cfg.batch_size}: {process_count} host(s) cannot share it: "
            f"choose a multiple of {process_count}"
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


def read_clip(
    record: Record, rng: np.random.Generator, *, cfg: LoaderConfig, info: shards.DatasetInfo
) -> Batch:
    """One element of a batch: the record's window decoded, and its mask noise.

    Keys and shapes are `make_loader`'s without b. Raises InputError if a frame cannot be decoded.
    """
    fps = float(record.floats("fps")[0])
    num_frames = len(record.bytes_list("frames"))
    if num_frames == 1 and not cfg.labels:
        raise InputError(
            f"{cfg.data_dir} holds stills: pre-training needs clips; stills are for fine-tuning"
        )
    if cfg.window_seconds:
        times = frame_times(record.floats("times"), num_frames, cfg.assumed_fps)
        window, sampled_fps = cfg.window_seconds, cfg.frames / cfg.window_seconds
    else:
        times, window, sampled_fps = np.arange(num_frames), cfg.frames, fps
    frame_index = choose_frames(times, cfg.frames, window, rng if cfg.shuffle else None)

    sector = record.bytes_list("sector")[0]
    sector = records.unpack_sector(sector, info.size) if sector else None
    steps, grid = cfg.frames // cfg.tubelet, cfg.size // cfg.patch
    clip = {
        "clip": decode_window(record, frame_index, cfg, info),
        "noise": mask_noise(cfg.masking, steps, grid, sector, rng),
        "fps": np.float32(sampled_fps if fps else 0),
        "index": np.int64(record.index),
    }
    if cfg.labels:
        phase = record.floats("phase")
        clip |= {
            "phase": phase[frame_index] if len(phase) else np.full(cfg.frames, np.nan, np.float32),
            "frame_index": frame_index,
            "view": np.int32(records.VIEWS.index(record.bytes_list("view")[0].decode())),
            "ejection_fraction": record.floats("ejection_fraction")[0],
        }
    return clip


def decode_window(
    record: Record, frame_index: np.ndarray, cfg: LoaderConfig, info: shards.DatasetInfo
) -> np.ndarray:
    """Frames `frame_index` [T] of a record, [T, size, size] uint8 or [T, size, size, 3].

    A frame that the window holds more than once is decoded once. Frames stored larger than
    `cfg.size` are reduced by averaging areas.
    """
    encoded = record.bytes_list("frames")
    colour = (3,) if info.colour else ()
    clip = np.empty((len(frame_index), cfg.size, cfg.size, *colour), np.uint8)
    stored = np.empty((info.size, info.size, *colour), np.uint8)
    decoded: dict[int, int] = {}  # frame → where in the clip it is
    for i, frame in enumerate(frame_index.tolist()):
        if frame in decoded:
            clip[i] = clip[decoded[frame]]
            continue
        decoded[frame] = i
        out = clip[i] if info.size == cfg.size else stored
        try:
            records.decode_frame(encoded[frame], info.encoding, out)
        except Exception as error:  # each codec has its own
            raise InputError(
                f"split '{cfg.split}': record {record.index}, frame {frame} cannot be decoded "
                f"({error}): ingest its source again"
            ) from error
        if out is stored:
            cv2.resize(stored, (cfg.size, cfg.size), dst=clip[i], interpolation=cv2.INTER_AREA)
    return clip


def make_loader(
    cfg: LoaderConfig, *, process_index: int = 0, process_count: int = 1
) -> grain.experimental.ElasticIterator:
    """The host's iterator of batches, of b = batch_size / process_count clips each.

    A batch holds `clip` [b, T, H, W] uint8 ([b, T, H, W, 3] where the data set is in colour),
    `noise` [b, *noise_shape] float32, `fps` [b] float32 (samples a second in the window, 0 =
    unknown), `index` [b] int64 (the record in its split) and `valid` [b] bool (False for the clips
    that fill up the last batch of `num_epochs`). With `labels` also `phase` [b, T] float32
    (NaN = unknown), `frame_index` [b, T] int32 (the record's frame that each sample shows),
    `view` [b] int32 (index in records.VIEWS) and `ejection_fraction` [b] float32 (percent or NaN).

    Batches run on over the end of an epoch, so each record comes exactly once an epoch and a data
    set may be smaller than the batch. `get_state()` is one integer, equal on every host, and
    `set_state()` continues exactly, on another number of hosts too: the same clips come in each
    global batch, in another order.

    Memory: at most 2 × (workers + 1) host batches; a thread holds its clips while it stacks them.

    Raises:
      InputError: a batch that the hosts cannot share, a data set that is missing, empty, or
        smaller in pixels than `size`; while iterating: a record that cannot be decoded.
    """
    info = shards.dataset_info(cfg.data_dir)
    check(cfg, info, process_count)
    source = ClipSource(cfg.data_dir, cfg.split)
    cv2.setNumThreads(1)  # the loader's own threads fill the cores
    last = sys.maxsize if cfg.num_epochs is None else cfg.num_epochs * len(source)
    length = min(-(-last // cfg.batch_size) * cfg.batch_size, sys.maxsize)  # whole batches
    clips = (
        grain.MapDataset.range(length)
        .map(RecordOrder(len(source), cfg.seed, cfg.shuffle))
        .map(source.__getitem__)
        # An element's random numbers are keyed by its position in the stream, which the seed ties
        # to an epoch and a record.
        .random_map(functools.partial(read_clip, cfg=cfg, info=info), seed=cfg.seed)
        .map_with_index(lambda position, clip: clip | {"valid": np.bool_(position < last)})
    )
    workers = cfg.workers or min(len(os.sched_getaffinity(0)), 8)
    return grain.experimental.ElasticIterator(
        clips,
        cfg.batch_size,
        grain.sharding.ShardOptions(shard_index=process_index, shard_count=process_count),
        read_options=grain.ReadOptions(num_threads=workers, prefetch_buffer_size=workers),
    )
