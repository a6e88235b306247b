"""One whole recording, and its steps as a model or the raw pixels describe them.

A training window holds eight steps; here windows slide along a recording, a half tubelet at a
time, so that several heartbeats are seen and each embedding is the mean over its positions.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import records
from data_pipelines.clip_labels import word
from data_pipelines.clip_source import Record
from data_pipelines.decode import decode_frames, decode_sector
from data_pipelines.loader import LoaderConfig
from data_pipelines.window import choose_frames, frame_times
from echofm_jax import phase
from echofm_jax.architecture import Architecture
from echofm_jax.losses import pool_matrix

WINDOWS = 8  # embedded at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """A record sampled at the training window's rate, n samples, and what is known of it."""

    frames: np.ndarray  # [n, H, W] or [n, H, W, 3] uint8
    seconds: float  # between samples, nan = unknown
    fps: float  # of the file, frames a second, nan = unknown
    beats: np.ndarray  # [n] time in beats (`phase.beat_time`), nan = unknown
    end_diastole: np.ndarray  # [k] where, in samples
    end_systole: np.ndarray  # [k]
    sector: np.ndarray  # [H, W] bool
    whole: bool = True  # False: shorter than a window, and begun anew to fill one
    patient: str = ""  # its hash
    view: str = ""  # one of records.VIEWS
    rhythm: str = ""  # one of records.RHYTHMS
    ejection_fraction: float = float("nan")  # percent

    @property
    def labelled(self) -> bool:
        """Whether anything is known of it that a head could learn."""
        known = (self.view, self.rhythm, len(self.end_diastole) + len(self.end_systole))
        return any(known) or bool(np.isfinite(self.ejection_fraction))

    def without_frames(self) -> "Recording":
        """What is known of it."""
        return dataclasses.replace(self, frames=np.zeros(0, np.uint8))


def read_recording(record: Record, cfg: LoaderConfig) -> Recording:
    """All of a record as `cfg` samples it; of one shorter than a window, one without events."""
    fps = float(record.floats("fps")[0])
    num_frames = len(record.bytes_list("frames"))
    if cfg.window_seconds:
        times = frame_times(record.floats("times"), num_frames, cfg.assumed_fps)
        interval = cfg.window_seconds / cfg.frames
        seconds = interval if fps else float("nan")
    else:
        times, interval = np.arange(float(num_frames)), 1.0
        seconds = 1 / fps if fps else float("nan")
    samples = int((times[-1] - times[0]) / interval + 1e-6) + 1
    whole = samples >= cfg.frames
    samples = max(samples, cfg.frames)
    index = choose_frames(times, samples, samples * interval, None)  # [n]
    labelled = record.floats("phase")
    known = whole and len(labelled)
    beats = phase.beat_time(labelled) if known else np.full(num_frames, np.nan)
    events = {
        name: (times[record.integers(name)] - times[index[0]]) / interval if whole else np.zeros(0)
        for name in ("end_diastole", "end_systole")
    }
    return Recording(
        frames=decode_frames(record, index, cfg.size),
        seconds=seconds,
        fps=fps or float("nan"),
        beats=beats[index],
        **events,
        sector=sector_mask(record, cfg),
        whole=whole,
        patient=record.bytes_list("patient_id")[0].decode(),
        view=records.VIEWS[word(record, "view", records.VIEWS)],
        rhythm=records.RHYTHMS[word(record, "rhythm", records.RHYTHMS)],
        ejection_fraction=float(record.floats("ejection_fraction")[0]),
    )


def sector_mask(record: Record, cfg: LoaderConfig) -> np.ndarray:
    """[size, size] bool, inside the ultrasound sector; all True where that is not known."""
    return decode_sector(record, cfg.size)


class Described(NamedTuple):
    """A recording as each source (a model, raw pixels) describes it."""

    starts: np.ndarray  # [m] first frame of each step
    steps: dict[str, np.ndarray]  # source: [m, D] what their similarity is taken of
    features: dict[str, np.ndarray]  # source: [m, F] what heads read of a step
    video: dict[str, np.ndarray]  # source: [2F] what heads read of the recording


def describe(
    recordings: Sequence[np.ndarray],
    embedders: dict[str, Callable],
    arch: Architecture,
    *,
    fine: bool = True,
    pixels: bool = True,
) -> list[Described]:
    """Slide the models' window along recordings.

    Args:
      recordings: frames [n, H, W(, 3)] uint8 each, n at least T.
      embedders: source: clips [WINDOWS, T, H, W(, 3)] uint8 → frame embeddings [WINDOWS, t, D] and
        what heads read [WINDOWS, t, F].
      arch: gives T and the tubelet.
      fine: steps lie half a tubelet apart, evenly, each the mean over windows that slide by one
        and a half; else windows lie side by side, which is enough to fit on. What is read of a
        whole recording comes from windows side by side, either way.
      pixels: are a source of their own.
    """
    half, odd = divmod(arch.tubelet, 2)
    slide = arch.tubelet if odd else arch.tubelet + half
    beside = arch.frames // slide  # so many slides to the next window beside
    stride, every = (slide, beside) if fine else (slide * beside, 1)
    firsts = [np.arange(0, len(frames) - arch.frames + 1, stride) for frames in recordings]
    windows = [(i, first) for i, own in enumerate(firsts) for first in own]
    embedded = {
        name: embed_windows(embed, recordings, windows, arch.frames)
        for name, embed in embedders.items()
    }
    ends = np.cumsum([0, *map(len, firsts)])
    inside = arch.tubelet * np.arange(arch.steps)
    described = []
    for i, (frames, first) in enumerate(zip(recordings, firsts, strict=True)):
        at = (first[::every, None] + inside).ravel()  # of steps side by side
        steps, features = {}, {}
        video = {}
        if pixels:
            video["pixels"] = mean_and_spread(pixel_features(frames, at, arch.tubelet))
        for name, (z, read) in embedded.items():
            rows = slice(ends[i], ends[i + 1])
            video[name] = mean_and_spread(np.concatenate(read[rows][::every]))
            steps[name], starts = phase.stitch(z[rows], first, arch.tubelet)
            features[name], _ = phase.stitch(read[rows], first, arch.tubelet)
            if fine:
                even = evenly_spaced(starts)
                steps[name], features[name] = steps[name][even], features[name][even]
                starts = starts[even]
        if pixels:
            steps["pixels"] = features["pixels"] = pixel_features(frames, starts, arch.tubelet)
        described.append(Described(starts, steps, features, video))
    return described


def mean_and_spread(features: np.ndarray) -> np.ndarray:
    """[m, F] of steps → [2F], their mean and standard deviation."""
    return np.concatenate([features.mean(0), features.std(0)])


def evenly_spaced(starts: np.ndarray) -> slice:
    """Which of steps that begin at `starts` [m] lie equally close: the first and last may not."""
    gaps = np.diff(starts)
    close = np.flatnonzero(gaps == gaps.min())
    return slice(int(close[0]), int(close[-1]) + 2)


def embed_windows(
    embed: Callable, recordings: Sequence[np.ndarray], windows: Sequence[tuple], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """What `embed` gives of windows (recording, first frame) of a length, WINDOWS at a time."""
    found = []
    for i in range(0, len(windows), WINDOWS):
        some = windows[i : i + WINDOWS]
        padded = [*some, *some[-1:] * (WINDOWS - len(some))]  # one shape, one compilation
        clips = np.stack([recordings[j][first : first + length] for j, first in padded])
        found.append([np.asarray(part)[: len(some)] for part in embed(clips)])
    z, read = zip(*found, strict=True)
    return np.concatenate(z), np.concatenate(read)


def pixel_features(frames: np.ndarray, starts: np.ndarray, tubelet: int) -> np.ndarray:
    """The pixel prior's features of the tubelets that begin at `starts` [m]: [m, 32·32].

    Grey, mean over the tubelet, pooled, minus the spatial mean; `phase.similarity` then takes the
    temporal mean away, so that their similarity is the prior of the whole recording.
    """
    unit = grey(frames) / np.float32(255)
    rows, columns = (pool_matrix(side) for side in unit.shape[1:])
    pooled = np.einsum("ph,nhw,qw->npq", rows, unit, columns, optimize=True)
    pooled = pooled.reshape(len(unit), -1)  # [n, 32·32]
    features = pooled[starts[:, None] + np.arange(tubelet)].mean(1)  # [m, 32·32]
    return features - features.mean(1, keepdims=True)


def grey(frames: np.ndarray) -> np.ndarray:
    """[n, H, W] or [n, H, W, 3] uint8 → [n, H, W] uint8."""
    return frames if frames.ndim == 3 else frames.mean(-1).astype(np.uint8)
