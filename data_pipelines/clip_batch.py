"""Batches of clips, as EchoFM learns from: windows of records, augmented, with masks' noise.

`crop_batch` is the other kind; the loader asks either for the same three things.
"""

import cv2
import numpy as np

from data_pipelines import records, shards
from data_pipelines.augment import NONE, augment_clip, draw_duration
from data_pipelines.clip_labels import clip_labels
from data_pipelines.clip_source import Record
from data_pipelines.decode import decode_frames
from data_pipelines.loader_config import Batch, LoaderConfig
from data_pipelines.mask_noise import mask_noise
from data_pipelines.window import choose_frames, frame_times
from echofm_jax.errors import InputError


def check(cfg: LoaderConfig, info: shards.DatasetInfo) -> None:
    """Refuse, as InputError, shapes that do not fit each other or the data set."""
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


def empty(cfg: LoaderConfig, count: int, colour: bool) -> Batch:
    """Room for the pixels of `count` records: `clip` [count, k, T, size, size(, 3)] uint8."""
    shape = (count, cfg.windows_per_record, cfg.frames, cfg.size, cfg.size)
    return {"clip": np.empty((*shape, *(3,) * colour), np.uint8)}


def read(record: Record, rng: np.random.Generator, cfg: LoaderConfig, out: Batch) -> list[Batch]:
    """The record's k windows decoded into `out`, its place in `empty`; all else about each.

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
    for _ in out["clip"]:
        duration = draw_duration(rng, cfg.augment)
        start = rng if cfg.shuffle else None
        windows.append(choose_frames(times, cfg.frames, window * duration, start))
        rates.append(fps / duration)
    pixels = out["clip"].reshape(-1, *out["clip"].shape[2:])  # [k, T, …] → [k·T, …]
    decode_frames(record, np.concatenate(windows), cfg.size, pixels)

    packed = record.bytes_list("sector")[0]
    sector = records.unpack_sector(packed, record.info.size) if packed else None
    if sector is not None and cfg.augment != NONE:
        sector = resized(sector, cfg.size)
    steps, grid = cfg.frames // cfg.tubelet, cfg.size // cfg.patch
    clips = []
    for clip, frame_index, rate in zip(out["clip"], windows, rates, strict=True):
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
