"""One whole recording, and its steps as a model or the raw pixels describe them.

A training window holds eight steps; here windows slide along a recording, a half tubelet at a
time, so that several heartbeats are seen and each embedding is the mean over its positions.
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from tqdm import tqdm

from data_pipelines import records
from data_pipelines.clip_source import Record
from data_pipelines.loader import LoaderConfig, decode_window
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
    beats: np.ndarray  # [n] time in beats (`phase.beat_time`), nan = unknown
    end_diastole: np.ndarray  # [k] where, in samples
    end_systole: np.ndarray  # [k]
    sector: np.ndarray  # [H, W] bool


def read_recording(record: Record, cfg: LoaderConfig) -> Recording | None:
    """All of a record as `cfg` samples it; None if it is shorter than one window."""
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
    if samples < cfg.frames:
        return None
    index = choose_frames(times, samples, samples * interval, None)  # [n]
    labelled = record.floats("phase")
    beats = phase.beat_time(labelled) if len(labelled) else np.full(num_frames, np.nan)
    return Recording(
        frames=decode_window(record, index, cfg),
        seconds=seconds,
        beats=beats[index],
        end_diastole=(times[label(record, "end_diastole")] - times[index[0]]) / interval,
        end_systole=(times[label(record, "end_systole")] - times[index[0]]) / interval,
        sector=sector_mask(record, cfg),
    )


def label(record: Record, key: str) -> np.ndarray:
    """An integer feature, [k], empty where the record has none."""
    return np.array(record.example.features.feature[key].int64_list.value, int)


def sector_mask(record: Record, cfg: LoaderConfig) -> np.ndarray:
    """[size, size] bool, inside the ultrasound sector; all True where that is not known."""
    packed = record.bytes_list("sector")[0]
    if not packed:
        return np.ones((cfg.size, cfg.size), bool)
    stored = record.info.size
    nearest = (np.arange(cfg.size) + 0.5) * stored / cfg.size
    return records.unpack_sector(packed, stored)[np.ix_(*[nearest.astype(int)] * 2)]


def embed_recording(
    embed: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, arch: Architecture
) -> tuple[np.ndarray, np.ndarray]:
    """Slide a model's window along a recording.

    Args:
      embed: clips [WINDOWS, T, H, W(, 3)] uint8 → frame embeddings [WINDOWS, t, D].
      frames: [n, H, W(, 3)] uint8, n at least T.
      arch: gives T and the tubelet.

    Returns:
      z [m, D] and the first frame of each [m], half a tubelet apart (`phase.stitch`).
    """
    half, odd = divmod(arch.tubelet, 2)
    stride = arch.tubelet if odd else half  # steps stay evenly spaced
    starts = np.arange(0, len(frames) - arch.frames + 1, stride)
    windows = []
    for i in range(0, len(starts), WINDOWS):
        some = starts[i : i + WINDOWS]
        padded = np.pad(some, (0, WINDOWS - len(some)), mode="edge")  # one shape, one compilation
        clips = frames[padded[:, None] + np.arange(arch.frames)]  # [WINDOWS, T, H, W(, 3)]
        windows.append(np.asarray(embed(clips))[: len(some)])
    return phase.stitch(np.concatenate(windows), starts, arch.tubelet)


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


def phase_metrics(
    recording: Recording, similarities: dict[str, np.ndarray], starts: np.ndarray, tubelet: int
) -> dict:
    """What the steps of one recording tell of its cardiac phase; nan where nothing is known.

    Args:
      recording: with its labels.
      similarities: whose steps → [m, m] `phase.similarity`; `model` must be one of them.
      starts: [m] first frame of each step, evenly spaced, m at least 2.
      tubelet: frames of a step.

    Returns:
      For each source `cross_beat_error_*` (% of a cycle), `heart_rate_*` (bpm),
      `heart_rate_found_*` (0 or 1) and `heart_rate_error_*`; `cross_beat_error_chance`,
      `heart_rate_true`; of the model's steps `same_phase` [m] (step index, -1 for none) and
      `seconds_per_step`; and what `end_points` returns.
    """
    seconds = float(starts[1] - starts[0]) * recording.seconds
    beats = phase.step_beat_time(recording.beats, starts, tubelet)
    true_rate = mean_rate(beats, seconds)
    found = {"seconds_per_step": seconds, "heart_rate_true": true_rate}
    for name, S in similarities.items():
        error, chance = phase.cross_beat_phase_error(S, beats)
        rate = phase.heart_rate(S, seconds)
        found |= {
            f"cross_beat_error_{name}": error,
            "cross_beat_error_chance": chance,
            f"heart_rate_{name}": rate,
            f"heart_rate_found_{name}": float(np.isfinite(rate)),
            f"heart_rate_error_{name}": abs(rate - true_rate),
        }
    half_cycle = np.nan_to_num(30 / found["heart_rate_model"], nan=0.4)
    same = phase.same_phase_retrieval(similarities["model"], seconds, half_cycle)
    found["same_phase"] = same.tolist()
    return found | end_points(recording, similarities["model"], starts, tubelet)


def mean_rate(beats: np.ndarray, seconds: float) -> float:
    """[m] time in beats of steps `seconds` apart → beats per minute; nan without a full beat."""
    at = np.flatnonzero(np.isfinite(beats))
    if len(at) < 2 or beats[at[-1]] - beats[at[0]] < 1:
        return float("nan")
    return float(60 * (beats[at[-1]] - beats[at[0]]) / ((at[-1] - at[0]) * seconds))


def end_points(
    recording: Recording, S: np.ndarray, starts: np.ndarray, tubelet: int
) -> dict[str, float | list[float]]:
    """Candidates for ED and ES, and how near they come to the labels.

    `end_diastole_seconds` and `end_systole_seconds` from the recording's first frame;
    `end_diastole_error` and `end_systole_error`, the mean time from a label to the nearest
    candidate. Labels before the second step and after the last but one do not count: nothing
    shows a turn there.
    """
    cavity = phase.cavity_curve(grey(recording.frames), recording.sector)
    cavity = cavity[starts[:, None] + np.arange(tubelet)].mean(1)  # [m]
    step = starts[1] - starts[0]
    turns = phase.end_diastole_end_systole(S, cavity, step * recording.seconds)
    middle = starts + (tubelet - 1) / 2
    found = {}
    for name, labels, steps in (
        ("end_diastole", recording.end_diastole, turns.highs),
        ("end_systole", recording.end_systole, turns.lows),
    ):
        labels = labels[(labels >= middle[1]) & (labels <= middle[-2])]
        error = float("nan")
        if len(labels) and len(steps):
            off = np.abs(labels[:, None] - middle[steps]).min(1)
            error = float(off.mean() * recording.seconds)
        found[f"{name}_error"] = error
        found[f"{name}_seconds"] = (middle[steps] * recording.seconds).tolist()
    return found


def grey(frames: np.ndarray) -> np.ndarray:
    """[n, H, W] or [n, H, W, 3] uint8 → [n, H, W] uint8."""
    return frames if frames.ndim == 3 else frames.mean(-1).astype(np.uint8)


def measure_recordings(
    recordings: Iterable[Recording | None],
    embedders: dict[str, Callable],
    arch: Architecture,
) -> tuple[list[dict | None], dict | None]:
    """Phase figures of each recording (`phase_metrics`; None stays None), and one to draw.

    The one to draw holds the most heartbeats, or steps where beats are not known: `similarity`,
    keyword arguments of `visualize.similarity_maps`, and `trajectory`, those of
    `visualize_trajectory.trajectory`.
    """
    found, drawn, most = [], None, (-1.0, 0)
    for recording in tqdm(recordings, desc="recordings", disable=None):
        if recording is None:
            found.append(None)
            continue
        embedded, similarities = {}, {}
        for name, embed in embedders.items():
            embedded[name], starts = embed_recording(embed, recording.frames, arch)
            similarities[name] = phase.similarity(embedded[name])
        pixels = pixel_features(recording.frames, starts, arch.tubelet)
        similarities["pixels"] = phase.similarity(pixels)
        found.append(phase_metrics(recording, similarities, starts, arch.tubelet))
        beats = phase.step_beat_time(recording.beats, starts, arch.tubelet)
        count = (float(np.nan_to_num(np.ptp(beats))), len(starts))
        if count > most:
            most = count
            time = {"seconds_per_step": (starts[1] - starts[0]) * recording.seconds, "beats": beats}
            maps = {"embedding": similarities["model"], "prior": similarities["pixels"]}
            path = {
                "frames": grey(recording.frames),
                "starts": starts,
                "tubelet": arch.tubelet,
                "z": embedded["model"],
                "same_phase": np.array(found[-1]["same_phase"]),
            }
            drawn = {"similarity": maps | time, "trajectory": path | time}
    return found, drawn
