"""The cardiac cycle in frame embeddings: its length, its turning points, the same phase elsewhere.

Numpy only. Every function works on one recording: t steps of equal length in time order, seen
through their self-similarity S [t, t], so that a model's embeddings and raw pixels are measured
alike. `echofm_jax.evaluate` says how the steps of a whole recording are made.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SHORTEST_CYCLE = 0.25  # seconds, 240 bpm
LONGEST_CYCLE = 2.4  # seconds, 25 bpm


def stitch(windows: np.ndarray, starts: np.ndarray, t_patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping windows of one recording → one sequence of embeddings.

    Args:
      windows: [n, t, D] frame embeddings of n windows.
      starts: [n] index of each window's first frame.
      t_patch: frames of a tubelet; step i of window k covers t_patch frames from
        starts[k] + i * t_patch. Windows one frame apart give one embedding a frame.

    Returns:
      z [m, D], the mean over all windows that embed the same frames (so over its positions in the
      window), and frames [m], each embedding's first frame, ascending.
    """
    first = np.asarray(starts)[:, None] + t_patch * np.arange(windows.shape[1])  # [n, t]
    frames, row = np.unique(first.ravel(), return_inverse=True)
    z = np.zeros((len(frames), windows.shape[2]))
    np.add.at(z, row, windows.reshape(-1, windows.shape[2]))
    return z / np.bincount(row)[:, None], frames


def similarity(z: np.ndarray, centre: bool = True) -> np.ndarray:
    """[t, D] embeddings → [t, t] cosine similarity.

    `centre` first takes away the mean over time, which holds the anatomy and the view: what is
    left is what moves. Without it, this is the similarity that the objective trains.
    """
    z = np.asarray(z, np.float64)
    if centre:
        z = z - z.mean(axis=0)
    z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    return z @ z.T


def lag_curve(S: np.ndarray) -> np.ndarray:
    """[t, t] similarity → [t], the mean similarity of steps k apart for k = 0 … t-1."""
    return np.array([np.diagonal(S, k).mean() for k in range(len(S))])


def cycle_length(S: np.ndarray, seconds_per_step: float) -> float:
    """Seconds from one heartbeat to the next: the first rebound of the lag curve, sub-step.

    The rebound is the first one to climb out of its trough by 0.7 of the highest climb (smaller
    ones are the two passages through one volume inside a cycle; the rule is that of McLeod and
    Wyvill 2005 for pitch), and is refined by a parabola through three lags. It is nan where the
    curve shows no full cycle: the recording ends before the rebound has turned, or the climb is
    less than a fifth of the fall or than four standard errors, or the lag is not between 0.25 s
    and 2.4 s (25 to 240 bpm). It is nan too where `seconds_per_step` is.
    """
    if not np.isfinite(seconds_per_step):
        return float("nan")
    curve = lag_curve(S)[: int(LONGEST_CYCLE / seconds_per_step) + 2]
    climb = curve - np.minimum.accumulate(curve)
    highest, top = climb.max(), int(climb.argmax())
    trough = int(curve[: top + 1].argmin())
    error = np.hypot(*(np.diagonal(S, k).std() / np.sqrt(len(S) - k) for k in (trough, top)))
    if not highest > max(0.2 * (curve[0] - curve.min()), 4 * error):
        return float("nan")
    rebound = climb >= 0.7 * highest
    start = int(rebound.argmax())
    stop = start + int(np.append(~rebound[start:], True).argmax())
    peak = start + int(curve[start:stop].argmax())
    if peak == len(curve) - 1:
        return float("nan")
    before, at, after = curve[peak - 1 : peak + 2]
    bend = before - 2 * at + after
    seconds = (peak + (0.5 * (before - after) / bend if bend < 0 else 0.0)) * seconds_per_step
    return float(seconds) if SHORTEST_CYCLE <= seconds <= LONGEST_CYCLE else float("nan")


def heart_rate(S: np.ndarray, seconds_per_step: float) -> float:
    """Beats per minute, nan where `cycle_length` is."""
    return 60.0 / cycle_length(S, seconds_per_step)


class TurningPoints(NamedTuple):
    """Where the cycle's main curve turns: steps of its highs and lows, and the curve [t]."""

    highs: np.ndarray
    lows: np.ndarray
    curve: np.ndarray


def turning_points(S: np.ndarray, seconds_per_step: float) -> TurningPoints:
    """The two ends of the heart's motion, without saying which end is which.

    The curve is the principal component of S that carries most power at the cycle's frequency.
    Its sign is arbitrary, and so is its angle where two components share the cycle: embeddings
    alone cannot tell end-diastole from end-systole (`end_diastole_end_systole` can).
    """
    components = _components(S)
    cycle = cycle_length(S, seconds_per_step) / seconds_per_step
    if np.isnan(cycle):
        return _turns(components[:, 0], cycle)
    turn = np.exp(-2j * np.pi * np.arange(len(S)) / cycle)
    return _turns(components[:, np.abs(turn @ components).argmax()], cycle)


def end_diastole_end_systole(
    S: np.ndarray, cavity: np.ndarray, seconds_per_step: float
) -> TurningPoints:
    """Candidates for end-diastole (`highs`) and end-systole (`lows`).

    Args:
      S: [t, t] similarity.
      cavity: [t] any measure that is large at end-diastole, such as `cavity_curve`; its part in
        the span of the embeddings' four leading components is the curve that turns.
      seconds_per_step: of both.
    """
    basis = _components(S)[:, : min(4, len(S) // 2)]
    basis = basis / np.maximum(np.linalg.norm(basis, axis=0), 1e-12)
    curve = basis @ (basis.T @ (cavity - np.mean(cavity)))
    return _turns(curve, cycle_length(S, seconds_per_step) / seconds_per_step)


def cavity_curve(frames: np.ndarray, sector: np.ndarray) -> np.ndarray:
    """[T, H, W] grey frames, [H, W] bool → [T], the share of the sector that is dark blood pool.

    Dark is below Otsu's threshold of the whole clip. All chambers count, so in an apical view the
    atria, which fill while the ventricle empties, take part of its swing away.
    """
    pixels = frames[:, sector]  # [T, pixels]
    counts = np.bincount(pixels.ravel(), minlength=256).astype(np.float64)
    below = counts.cumsum()
    mass = (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    gap = mass / np.maximum(below, 1) - (mass[-1] - mass) / np.maximum(above, 1)
    return (pixels <= (below * above * gap**2).argmax()).mean(axis=1)


def same_phase_retrieval(
    S: np.ndarray, seconds_per_step: float, exclude_within: float
) -> np.ndarray:
    """[t] index of the most similar step at least `exclude_within` seconds away, -1 for none."""
    steps = np.arange(len(S))
    return _nearest(S, np.abs(steps[:, None] - steps) * seconds_per_step >= exclude_within)


def beat_time(phase: np.ndarray) -> np.ndarray:
    """[T] phase in [0, 1) → [T] time in beats: whole part the beat's number, fraction its phase.

    A beat begins where the phase wraps, so beats of any length count alike. Frames of unknown
    phase (nan) stay nan.
    """
    known = np.isfinite(phase)
    beats = np.full(len(phase), np.nan)
    steps = np.diff(phase[known], prepend=phase[known][:1])
    beats[known] = phase[known] + np.cumsum(steps < -0.5)
    return beats


def step_beat_time(beats: np.ndarray, frames: np.ndarray, t_patch: int) -> np.ndarray:
    """[T] time in beats of each frame → [m], of the tubelets that start at `frames` [m]."""
    return beats[np.asarray(frames)[:, None] + np.arange(t_patch)].mean(axis=1)


def cross_beat_phase_error(S: np.ndarray, beats: np.ndarray) -> tuple[float, float]:
    """How far off in the cycle the most similar step of another beat is, in % of a cycle.

    Steps less than half a cycle away are no candidates even across a beat's border: finding the
    next frame is not finding the phase.

    Args:
      S: [t, t] similarity.
      beats: [t] time in beats (`step_beat_time`), nan where unknown.

    Returns:
      (error, chance): the mean over steps of the circular error of the nearest neighbour, and of
      a candidate drawn at random: near 25, less in short recordings, whose candidates are not
      spread evenly. Both nan without a second beat.
    """
    apart = np.abs(beats[:, None] - beats)  # [t, t], nan where unknown
    other = (np.floor(beats)[:, None] != np.floor(beats)) & (apart >= 0.5)
    found = _nearest(S, other)
    has = np.flatnonzero(found >= 0)
    if len(has) == 0:
        return float("nan"), float("nan")
    error = 100 * np.abs(apart - np.round(apart))  # at most 50
    chance = np.where(other, error, 0).sum(axis=1)[has] / other.sum(axis=1)[has]
    return float(error[has, found[has]].mean()), float(chance.mean())


def bootstrap(
    values: np.ndarray, groups: np.ndarray, resamples: int = 2000
) -> tuple[float, float, float]:
    """Mean of `values` [n] and its 95 % interval, drawing whole groups (patients) again.

    nan values are left out; the interval is nan with fewer than two groups.
    """
    values, groups = np.asarray(values, np.float64), np.asarray(groups)
    known = np.isfinite(values)
    if not known.any():
        return float("nan"), float("nan"), float("nan")
    _, row = np.unique(groups[known], return_inverse=True)
    total, count = np.bincount(row, values[known]), np.bincount(row)
    mean = float(total.sum() / count.sum())
    if len(count) < 2:
        return mean, float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(len(count), size=(resamples, len(count)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return mean, float(low), float(high)


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], float], groups: np.ndarray, resamples: int = 500
) -> tuple[float, float, float]:
    """`statistic(rows)` of all rows and its 95 % interval, drawing whole groups [n] again.

    Draws of which it is nan do not count.
    """
    names, row = np.unique(groups, return_inverse=True)
    whole = statistic(np.arange(len(row)))
    if len(names) < 2 or np.isnan(whole):
        return whole, float("nan"), float("nan")
    rows_of = [np.flatnonzero(row == i) for i in range(len(names))]
    drawn = np.random.default_rng(0).integers(len(names), size=(resamples, len(names)))
    found = [statistic(np.concatenate([rows_of[i] for i in some])) for some in drawn]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return whole, float(low), float(high)


def _components(S: np.ndarray) -> np.ndarray:
    """[t, t] → [t, t], principal components over time as columns, the strongest first."""
    centred = S - S.mean(axis=0) - S.mean(axis=1, keepdims=True) + S.mean()
    values, vectors = np.linalg.eigh(centred)
    return (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1]


def _turns(curve: np.ndarray, cycle: float) -> TurningPoints:
    """Extremes within a third of a cycle (in steps) either side; nan = of the whole curve."""
    radius = len(curve) if np.isnan(cycle) else max(1, round(cycle / 3))

    def peaks(values: np.ndarray) -> np.ndarray:
        # The first and last step are left out: whether the curve turns there is not known.
        return np.array([
            i
            for i in range(1, len(values) - 1)
            if i == max(0, i - radius) + values[max(0, i - radius) : i + radius + 1].argmax()
        ], dtype=int)  # fmt: skip

    return TurningPoints(peaks(curve), peaks(-curve), curve)


def _nearest(S: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """[t] column of the highest S among those allowed in each row, -1 where there is none."""
    return np.where(allowed.any(axis=1), np.where(allowed, S, -np.inf).argmax(axis=1), -1)
