"""When simulated hearts beat: each rhythm has what cardiologists know it by."""

import numpy as np
import pytest

from data_pipelines import records
from data_pipelines.phantom_rhythm import HEART_RATES, REFRACTORY, RHYTHMS, r_waves


def beating(rhythm, rr=0.8, variation=0.01, seconds=200.0, breath=0.3, seed=0):
    return r_waves(rhythm, rr, variation, seconds, breath, np.random.default_rng(seed))


def test_records_have_a_word_for_every_rhythm():
    assert set(RHYTHMS) <= set(records.RHYTHMS)


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_beats_cover_the_clip_at_the_mean_rate(rhythm):
    for rate in HEART_RATES[rhythm]:
        for seed, seconds in enumerate((2, 3, 4)):
            waves = beating(rhythm, 60 / rate, seconds=seconds, seed=seed)
            assert waves.times[1] < 0 < seconds < waves.times[-2]
            assert (np.diff(waves.times) > 0.25).all()
        assert np.diff(beating(rhythm, 60 / rate).times).mean() == pytest.approx(
            60 / rate, rel=0.05
        )


def test_a_sinus_rhythm_hardly_varies():
    intervals = np.diff(beating("sinus").times)
    assert 0 < intervals.std() / intervals.mean() < 0.015


def test_sinus_arrhythmia_follows_the_breath():
    waves = beating("sinus_arrhythmia", breath=0.3)
    intervals = np.diff(waves.times)
    assert np.ptp(intervals) > 0.12  # s: from there on it is called so
    breath = np.sin(2 * np.pi * (0.25 * waves.times[:-1] + 0.3))
    # Over 4 s, as long as clips are: later, beats and breath need not stay together.
    near = np.abs(waves.times[:-1]) < 4
    assert np.corrcoef(breath[near], intervals[near])[0, 1] < -0.5


def test_atrial_fibrillation_is_irregularly_irregular_and_without_atrial_beats():
    waves = beating("atrial_fibrillation")
    intervals = np.diff(waves.times)
    assert 0.18 < intervals.std() / intervals.mean() < 0.33
    # No interval tells anything about the next.
    assert abs(np.corrcoef(intervals[:-1], intervals[1:])[0, 1]) < 0.15
    assert intervals.min() >= REFRACTORY
    assert not waves.atrial.any() and not waves.premature.any()


@pytest.mark.parametrize("rhythm", ["premature_beats", "bigeminy"])
def test_a_premature_beat_is_followed_by_a_pause_that_compensates(rhythm):
    waves = beating(rhythm, variation=0.005)
    early = np.flatnonzero(waves.premature[:-1])
    early = early[early > 0]
    before, after = (waves.times[early + k] - waves.times[early + k - 1] for k in (0, 1))
    assert len(early) > 20
    assert (before < 0.75 * 0.8).all() and (after > 1.25 * 0.8).all()
    assert before + after == pytest.approx(2 * 0.8, rel=0.03)
    assert not waves.atrial[early].any() and waves.atrial[early + 1].all()
    apart = np.diff(early)
    assert (apart == 2).all() if rhythm == "bigeminy" else (apart > 3).all()


def test_a_clip_of_premature_beats_shows_one():
    for seed in range(30):
        waves = beating("premature_beats", rr=0.55 + 0.02 * seed, seconds=2.0, seed=seed)
        assert waves.premature[(waves.times > 0) & (waves.times < 1.5)].any()


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_a_seed_is_a_rhythm(rhythm):
    one, again, other = (beating(rhythm, seconds=5, seed=seed).times for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert len(one) != len(other) or (one != other).any()
