"""How simulated ventricles fill and empty, beat by beat, and their electrocardiogram."""

import numpy as np
import pytest

from data_pipelines.phantom_beats import ISOVOLUMIC_CONTRACTION, Beats
from data_pipelines.phantom_ecg import ecg
from data_pipelines.phantom_rhythm import r_waves


def beating(rhythm="sinus", rr=0.8, seconds=200.0, variation=0.0):
    waves = r_waves(rhythm, rr, variation, seconds, 0.3, np.random.default_rng(0))
    return Beats.of(waves, rr)


def within(beats: Beats, number: int, points: int = 4001) -> np.ndarray:
    """Times of one beat, from its R wave to the next."""
    return beats.start[number] + np.linspace(0, beats.rr[number] * (1 - 1e-9), points)


@pytest.mark.parametrize("heart_rate", [40, 75, 160])
def test_a_regular_heart_empties_once_and_fills_in_three_steps(heart_rate):
    beats = beating(rr=60 / heart_rate)
    times = within(beats, 6)
    contraction, seconds = beats.contraction(times), times - beats.start[6]
    systole, filling = beats.end_systole[6], beats.filling[6]
    assert ISOVOLUMIC_CONTRACTION < systole < filling < beats.rr[6]
    assert contraction.min() == pytest.approx(0, abs=1e-6)
    assert contraction.max() == pytest.approx(1, abs=1e-6)
    # Both isovolumic phases are flat.
    assert np.ptp(contraction[seconds < ISOVOLUMIC_CONTRACTION]) == 0
    assert np.ptp(contraction[(seconds > systole) & (seconds < filling)]) == 0
    assert (np.diff(contraction[seconds <= systole]) >= -1e-12).all()
    assert (np.diff(contraction[seconds >= filling]) <= 1e-12).all()
    # Rapid filling and the atrial kick are fast, diastasis between them is not.
    rate = -np.gradient(contraction, times)
    part = (seconds - filling) / (beats.rr[6] - filling)
    rapid, rest, kick = (rate[(part > a) & (part < a + 0.2)].max() for a in (0.05, 0.45, 0.8))
    if heart_rate < 100:
        assert rapid > kick > 3 * rest
    assert kick > 0
    # Inflow and outflow valves are never open together.
    mitral, aortic = beats.mitral_opening(times), beats.aortic_opening(times)
    assert (mitral * aortic).max() == 0
    assert mitral.max() == pytest.approx(1, abs=1e-4) == aortic.max()
    assert not aortic[(seconds > systole)].any() and not mitral[seconds < filling].any()


def test_phase_is_zero_at_every_beat_and_rises_between():
    for rhythm in ("sinus", "atrial_fibrillation", "bigeminy"):
        beats = beating(rhythm)
        assert beats.phase(beats.start).tolist() == [0.0] * len(beats.start)
        assert beats.phase(beats.start + beats.rr / 4) == pytest.approx(0.25)


def strokes(beats: Beats) -> np.ndarray:
    return beats.empty - beats.full


def correlation(a, b) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_in_fibrillation_a_beat_is_as_strong_as_the_pause_before_it_was_long():
    beats = beating("atrial_fibrillation")
    stroke, rr = strokes(beats), beats.rr
    assert correlation(stroke[2:], rr[1:-1]) > 0.6
    assert correlation(-beats.full[2:], rr[1:-1]) > 0.6  # it fills more, too
    # At the same last interval, a short one before it makes a beat stronger.
    fit = np.linalg.lstsq(
        np.stack([rr[1:-1], rr[:-2], np.ones(len(rr) - 2)], 1), stroke[2:], rcond=None
    )
    assert fit[0][0] > 0 > fit[0][1]
    assert stroke.std() / stroke.mean() > 0.1
    assert strokes(beating("sinus", variation=0.02)).std() < 0.02


def test_in_fibrillation_no_atrial_kick():
    """Late in a long diastole volume and leaflets rest; in sinus rhythm both have an A wave."""
    found = {}
    for rhythm in ("sinus", "atrial_fibrillation"):
        beats = beating(rhythm, rr=1.0)
        long = int(np.argmax(beats.rr[4:])) + 4
        times = within(beats, long)
        late = times > beats.start[long] + beats.rr[long] - 0.15
        filled = beats.empty[long] - beats.full_next[long]
        found[rhythm] = (
            np.ptp(beats.contraction(times)[late]) / filled,
            beats.mitral_opening(times)[late].max(),
        )
    assert found["sinus"][0] > 0.2 and found["sinus"][1] > 0.7
    assert found["atrial_fibrillation"][0] < 0.06 and found["atrial_fibrillation"][1] < 0.4


@pytest.mark.parametrize("rhythm", ["premature_beats", "bigeminy"])
def test_a_premature_beat_is_weak_and_the_one_after_the_pause_strong(rhythm):
    beats = beating(rhythm)
    early = np.flatnonzero(beats.premature[:-1])[1:]
    stroke = strokes(beats)
    assert (stroke[early] < 0.8).all()
    assert (stroke[early + 1] > 1.02).all()
    assert (beats.full[early] > 0.1).all()  # fills less
    assert (beats.empty[early + 1] > 1.05).all()  # potentiated, not only better filled
    if rhythm == "premature_beats":
        assert stroke[early - 1] == pytest.approx(1, abs=0.1)


def lead(beats: Beats, before: float, after: float) -> np.ndarray:
    """[beats, samples] of the ECG around each R wave."""
    return ecg(beats, beats.start[3:-3, None] + np.arange(before, after, 0.002))


def test_the_ecg_peaks_at_each_r_wave_and_has_p_waves_in_sinus_rhythm_only():
    beats = beating("sinus")
    around = lead(beats, -0.3, 0.2)
    assert np.abs(around.argmax(1) * 0.002 - 0.3).max() < 0.005
    before = lead(beats, -0.18, -0.12).mean()
    fibrillating = lead(beating("atrial_fibrillation", rr=1.0), -0.18, -0.12)
    assert before > 0.08 and abs(fibrillating.mean()) < 0.03
    assert fibrillating.std() > 0.02  # f waves instead


def test_premature_beats_have_a_wide_qrs_without_p_wave():
    beats = beating("premature_beats", rr=1.0)
    early = beats.premature[3:-3]
    width = (np.abs(lead(beats, -0.1, 0.15)) > 0.3).sum(1) * 0.002
    assert width[early].min() > 0.1 > 0.05 > width[~early].max()
    p_wave = lead(beats, -0.17, -0.13).mean(1)
    assert p_wave[early].max() < 0.05 < p_wave[~early].min()
