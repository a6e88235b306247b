"""Phase figures of one recording, by source and by rhythm."""

import numpy as np
import pytest
from test_recordings import ARCH, read, record

from echofm_jax import recordings
from echofm_jax.phase_measures import mean_rate, phase_measures
from echofm_jax.readout import CycleReadout, cycle_angle
from echofm_jax.recordings import Described


def of_pixels(recording):
    """Steps of a recording with pixels in the model's place."""
    starts = np.arange(0, len(recording.frames) - ARCH.tubelet + 1, 2)
    z = recordings.pixel_features(recording.frames, starts, ARCH.tubelet)
    return Described(starts, {"model": z}, {"model": z}, {})


def measure(recording, readouts=None):
    return phase_measures(recording, of_pixels(recording), readouts or {}, ARCH.tubelet)


def readout(*given):
    described = [of_pixels(one) for one in given]
    angles = [
        cycle_angle((one.end_diastole, one.end_systole), d.starts + 1.5)
        for one, d in zip(given, described, strict=True)
    ]
    return CycleReadout([d.features["model"] for d in described], angles, list("ab"))


def test_phase_figures_of_a_beating_chamber():
    found = measure(read(record(rhythm="sinus")))
    assert found["heart_rate_true"] == pytest.approx(75, rel=1e-3)
    assert found["heart_rate_error_model"] < 1 and found["heart_rate_found_model"] == 1
    assert found["cross_beat_error_model"] < 1 < 20 < found["cross_beat_error_chance"]
    assert found["end_diastole_error_cavity"] < 50 and found["end_systole_error_cavity"] < 50
    assert np.diff(found["end_diastole_seconds"]) == pytest.approx(0.8, abs=0.1)
    assert found["cross_beat_error_tokens"] == found["cross_beat_error_model"]  # here the same
    same = np.array(found["same_phase"])
    lag = np.abs(same - np.arange(len(same))) * found["seconds_per_step"]
    assert np.abs(lag / 0.8 - np.round(lag / 0.8)).max() < 0.1


def test_figures_of_a_rhythm_carry_its_name():
    sinus, fibrillation, bigeminy = (
        measure(read(record(rhythm=name))) for name in ("sinus", "atrial_fibrillation", "bigeminy")
    )
    assert sinus["cross_beat_error_sinus_model"] == sinus["cross_beat_error_model"]
    assert fibrillation["cross_beat_error_af_chance"] == fibrillation["cross_beat_error_chance"]
    assert not [name for name in sinus if "_af_" in name]
    assert not [name for name in bigeminy if "_af_" in name or "_sinus_" in name]


def test_the_readout_of_other_recordings_finds_the_events_in_ms_and_frames():
    fitted = readout(read(record(bpm=60.0)), read(record(bpm=100.0)))
    found = measure(read(record(bpm=80.0)), {"model": fitted})
    assert found["end_diastole_error_model"] < 25 and found["end_systole_error_model"] < 25
    ms, frames = found["end_systole_error_model"], found["end_systole_frames_model"]
    assert ms == pytest.approx(1000 * frames / 30)
    assert found["irregularity_model"] == pytest.approx(found["irregularity_truth"], abs=0.05)


def test_frames_are_the_files_own_where_windows_are_in_seconds():
    fitted = readout(read(record(bpm=60.0)), read(record(bpm=100.0)))
    found = measure(read(record(bpm=80.0, rate=60.0), window_seconds=16 / 30), {"model": fitted})
    ms, frames = found["end_systole_error_model"], found["end_systole_frames_model"]
    assert ms == pytest.approx(1000 * frames / 60)


def test_without_labels_candidates_are_still_given():
    found = measure(read(record(labelled=False)))
    assert found["heart_rate_model"] == pytest.approx(75, abs=1)
    assert len(found["end_diastole_seconds"]) >= 3
    for name in (
        "heart_rate_true", "cross_beat_error_model", "end_diastole_error_cavity",
        "irregularity_truth",
    ):  # fmt: skip
        assert np.isnan(found[name])


def test_unknown_frame_rate_leaves_seconds_unknown():
    unknown = {"fps": np.float32(0), "times": np.zeros(0, np.float32)}
    for window_seconds in (0.0, 0.8):
        recording = read(record(**unknown), window_seconds)
        assert np.isnan(recording.seconds)
        found = measure(recording)
        assert np.isnan(found["heart_rate_model"]) and set(found["same_phase"]) == {-1}
        assert np.isnan(found["end_diastole_error_cavity"])
        assert found["cross_beat_error_model"] < 3  # needs no seconds


def test_mean_rate_needs_a_whole_beat():
    assert mean_rate(np.array([np.nan, 0.2, 0.7, 1.2]), 0.5) == pytest.approx(60)
    assert np.isnan(mean_rate(np.array([0.2, 0.7]), 0.5))
