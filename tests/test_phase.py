"""Phase tools on embeddings whose period, rhythm and phase are known."""

import numpy as np
import pytest

from echofm_jax import phase

FPS = 30.0


def beating(bpm, seconds=6.0, noise=0.0, harmonic=0.4, intervals=None, dim=32, seed=0):
    """Embeddings of a beating heart at 30 steps a second: (z [T, dim], phase [T])."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * FPS)) / FPS
    if intervals is None:
        intervals = np.full(int(seconds * bpm / 60) + 2, 60 / bpm)
    edges = np.concatenate([[0], np.cumsum(intervals)])
    beat = np.searchsorted(edges, times, side="right") - 1
    fraction = (times - edges[beat]) / np.asarray(intervals)[beat]
    turns = 2 * np.pi * fraction
    signal = np.stack([np.cos(turns), np.sin(turns)], 1)
    signal = np.concatenate([signal, harmonic * np.stack([np.cos(2 * turns)], 1)], 1)
    z = signal @ rng.normal(size=(3, dim)) + 5 * rng.normal(size=dim)  # a large constant part
    return z + noise * rng.normal(size=z.shape), fraction


@pytest.mark.parametrize("bpm", [45, 60, 75.5, 100, 140])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_heart_rate(bpm, noise):
    S = phase.similarity(beating(bpm, noise=noise)[0])
    assert phase.heart_rate(S, 1 / FPS) == pytest.approx(bpm, rel=0.02)


@pytest.mark.parametrize("bpm", [50, 60, 75])
def test_heart_rate_from_tubelets_of_four_frames(bpm):
    z, _ = beating(bpm, seconds=8)
    z = z[: len(z) // 4 * 4].reshape(-1, 4, z.shape[1]).mean(1)
    assert phase.heart_rate(phase.similarity(z), 4 / FPS) == pytest.approx(bpm, rel=0.02)


def test_strong_second_harmonic_is_not_taken_for_the_cycle():
    S = phase.similarity(beating(60, harmonic=1.0)[0])
    assert phase.heart_rate(S, 1 / FPS) == pytest.approx(60, rel=0.02)


def test_slow_drift_is_not_taken_for_the_cycle():
    z, _ = beating(72)
    z += np.linspace(0, 3, len(z))[:, None] * np.random.default_rng(1).normal(size=z.shape[1])
    assert phase.heart_rate(phase.similarity(z), 1 / FPS) == pytest.approx(72, rel=0.03)


def test_irregular_rhythm_gives_the_mean_or_nothing():
    rng = np.random.default_rng(3)
    for _ in range(8):
        intervals = rng.uniform(0.5, 1.2, size=20)
        z, _ = beating(0, seconds=8, intervals=intervals, noise=0.3)
        cycle = phase.cycle_length(phase.similarity(z), 1 / FPS)
        assert np.isnan(cycle) or 0.5 <= cycle <= 1.2


def test_no_full_cycle_gives_nan():
    z, _ = beating(60, seconds=0.9)
    assert np.isnan(phase.cycle_length(phase.similarity(z), 1 / FPS))
    still = np.ones((40, 8))
    assert np.isnan(phase.cycle_length(phase.similarity(still), 1 / FPS))
    ramp = np.linspace(0, 1, 60)[:, None] * np.ones((1, 8))
    assert np.isnan(phase.cycle_length(phase.similarity(ramp), 1 / FPS))


def test_noise_without_a_beat_gives_nan():
    noise = [np.random.default_rng(seed).normal(size=(30, 8)) for seed in range(60)]
    found = [phase.cycle_length(phase.similarity(z), 4 / FPS) for z in noise]
    assert np.isfinite(found).mean() < 0.1


def test_unknown_frame_rate_gives_nan_and_no_match():
    S = phase.similarity(beating(60)[0])
    assert np.isnan(phase.heart_rate(S, np.nan))
    assert (phase.same_phase_retrieval(S, np.nan, 0.5) == -1).all()


def test_lag_curve_is_the_mean_of_each_diagonal():
    S = np.arange(9.0).reshape(3, 3)
    assert phase.lag_curve(S).tolist() == [4.0, 3.0, 2.0]


def test_similarity_is_cosine_with_and_without_the_common_part():
    z = np.array([[3.0, 4.0], [4.0, 3.0]])
    assert phase.similarity(z, centre=False)[0, 1] == pytest.approx(0.96)
    assert phase.similarity(z)[0, 1] == pytest.approx(-1)


def test_turning_points_are_half_a_cycle_apart():
    z, _ = beating(60, harmonic=0.0)
    turns = phase.turning_points(phase.similarity(z), 1 / FPS)
    assert np.diff(turns.highs) == pytest.approx(np.full(len(turns.highs) - 1, 30), abs=1)
    assert len(turns.lows) >= 5
    first = max(turns.highs[0], turns.lows[0])
    assert np.abs(turns.lows - first).min() + np.abs(turns.highs - first).min() == pytest.approx(
        15, abs=1
    )


def test_end_diastole_and_end_systole_follow_the_cavity():
    z, fraction = beating(60, noise=0.2, harmonic=0.2)
    # Full at phase 0, empty at phase 0.35, measured with an error of a quarter of its swing.
    volume = np.where(
        fraction < 0.35,
        np.cos(np.pi * fraction / 0.35),
        -np.cos(np.pi * (fraction - 0.35) / 0.65),
    )
    volume = volume + 0.5 * np.random.default_rng(5).normal(size=len(volume))
    turns = phase.end_diastole_end_systole(phase.similarity(z), volume, 1 / FPS)
    off_diastole = np.abs(fraction[turns.highs] - np.round(fraction[turns.highs]))
    off_systole = np.abs(fraction[turns.lows] - 0.35)
    assert len(turns.highs) == 5 and len(turns.lows) == 6
    assert off_diastole.mean() < 0.07 and off_systole.mean() < 0.07


def test_cavity_curve_is_the_dark_share_of_the_sector():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    sector = rows > np.abs(columns - 32)
    radius = 10 + 4 * np.cos(2 * np.pi * np.arange(30) / 30)
    inside = (rows - 40) ** 2 + (columns - 32) ** 2 < radius[:, None, None] ** 2
    frames = np.where(
        inside, rng.integers(0, 30, inside.shape), rng.integers(90, 200, inside.shape)
    )
    frames = np.where(sector, frames, 0).astype(np.uint8)
    truth = (inside & sector).sum((1, 2)) / sector.sum()
    assert phase.cavity_curve(frames, sector) == pytest.approx(truth, abs=1e-9)


def test_same_phase_retrieval_finds_the_same_phase_elsewhere():
    z, fraction = beating(60, seconds=4)
    found = phase.same_phase_retrieval(phase.similarity(z), 1 / FPS, exclude_within=0.5)
    assert np.abs(found - np.arange(len(z))).min() >= 15
    assert np.abs(fraction[found] - fraction).max() < 1e-6
    assert (phase.same_phase_retrieval(np.eye(3), 0.1, exclude_within=1.0) == -1).all()


def test_beat_time_counts_where_the_phase_wraps():
    beats = phase.beat_time(np.array([0.6, 0.9, 0.1, np.nan, 0.7, 0.95, 0.0, 0.5]))
    assert np.isnan(beats[3])
    assert np.delete(beats, 3) == pytest.approx([0.6, 0.9, 1.1, 1.7, 1.95, 2.0, 2.5])


def test_a_tubelet_over_the_wrap_has_the_circular_mean():
    beats = phase.beat_time(np.array([0.8, 0.9, 0.0, 0.1, 0.2, 0.3, 0.4, np.nan]))
    time = phase.step_beat_time(beats, np.array([0, 1, 4]), t_patch=4)
    assert time[:2] == pytest.approx([0.95, 1.05])
    assert np.isnan(time[2])


def test_cross_beat_error_is_zero_for_perfect_embeddings_in_any_rhythm():
    z, fraction = beating(60, seconds=5)
    error, chance = phase.cross_beat_phase_error(phase.similarity(z), phase.beat_time(fraction))
    assert error < 1e-6 and chance == pytest.approx(25, abs=2)
    intervals = np.random.default_rng(1).uniform(0.5, 1.2, 20)
    z, fraction = beating(0, seconds=8, intervals=intervals)
    error, _ = phase.cross_beat_phase_error(phase.similarity(z), phase.beat_time(fraction))
    assert error < 2


def test_cross_beat_error_of_random_embeddings_is_chance():
    _, fraction = beating(60, seconds=10)
    z = np.random.default_rng(0).normal(size=(len(fraction), 64))
    error, chance = phase.cross_beat_phase_error(phase.similarity(z), phase.beat_time(fraction))
    assert error == pytest.approx(chance, abs=2) and chance == pytest.approx(25, abs=1)


def test_the_next_frame_across_a_beat_border_is_no_match():
    _, fraction = beating(60, seconds=4)
    beats = phase.beat_time(fraction)
    # An embedding that knows only the time: its nearest neighbours are adjacent frames.
    S = -np.abs(beats[:, None] - beats)
    error, _ = phase.cross_beat_phase_error(S, beats)
    assert error > 20


def test_one_beat_has_no_error_to_measure():
    _, fraction = beating(60, seconds=0.9)
    error, chance = phase.cross_beat_phase_error(np.eye(len(fraction)), phase.beat_time(fraction))
    assert np.isnan(error) and np.isnan(chance)
    assert np.isnan(phase.cross_beat_phase_error(np.eye(5), np.full(5, np.nan))).all()


def test_steps_of_unknown_phase_are_no_candidates():
    z, fraction = beating(60, seconds=4)
    S, beats = phase.similarity(z), phase.beat_time(fraction)
    beats[::3] = np.nan
    S[:, ::3] = 1.0
    error, chance = phase.cross_beat_phase_error(S, beats)
    assert error < 1e-6 and chance == pytest.approx(25, abs=2)


def test_stitch_averages_what_covers_the_same_frames():
    truth = np.arange(20.0)
    starts = np.array([0, 4, 8])
    windows = (
        truth[starts[:, None] + 4 * np.arange(3)][..., None] + np.array([-1, 0, 1])[:, None, None]
    )
    z, frames = phase.stitch(windows, starts, t_patch=4)
    assert frames.tolist() == [0, 4, 8, 12, 16]
    assert z[:, 0].tolist() == [-1, 3.5, 8, 12.5, 17]


def test_bootstrap_draws_whole_patients():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(20), 10)
    values = rng.normal(size=20)[patient]  # the ten clips of a patient say the same
    mean, low, high = phase.bootstrap(values, patient)
    assert mean == pytest.approx(values.mean())
    _, narrow_low, narrow_high = phase.bootstrap(values, np.arange(200))
    assert high - low > 2 * (narrow_high - narrow_low)
    mean, low, high = phase.bootstrap([0.0] * 90 + [1.0] * 10, [0] * 90 + list(range(1, 11)))
    assert mean == 0.1 and low < 0.1 and high == 1.0  # the patient of 90 clips is not always drawn
    assert phase.bootstrap([1.0, np.nan], [0, 1])[0] == 1.0
    assert np.isnan(phase.bootstrap([np.nan], [0])).all()
