"""Held-out recordings: what is fitted on train, what is measured, which one is drawn."""

import pytest
from test_recordings import ARCH, read, record

from echofm_jax import recordings
from echofm_jax.errors import InputError
from echofm_jax.held_out_recordings import measure_recordings


def embed(clips):
    """Pixels as a model would give them."""
    steps = clips.reshape(len(clips), ARCH.steps, -1).astype(float)
    return steps, steps


def pairs(*given):
    frames = [one.frames for one in given]
    return list(zip(given, recordings.describe(frames, {"model": embed}, ARCH), strict=True))


def of(patient, **changes):
    return read(record(patient_id=f"{patient:016x}", view="A4C", rhythm="sinus", **changes))


def test_without_anything_to_fit_on_phases_are_measured_and_heads_are_not():
    held_out = pairs(of(1, seconds=2.0), of(1, seconds=0.4), of(2, bpm=120.0))
    found = measure_recordings((), held_out, ARCH)
    assert found.patients == [f"{i:016x}" for i in (1, 1, 2)] and found.fitted_on == 0
    assert found.phases[1] is None and found.probes == {} and found.statistics == {}
    assert found.phases[2]["heart_rate_model"] == pytest.approx(120, abs=2)
    assert {"cross_beat_error_model", "cross_beat_error_pixels"} <= found.phases[0].keys()
    assert "end_diastole_error_model" not in found.phases[0]
    recording, _, measured = found.drawn  # four seconds at 120 a minute: the most beats
    assert measured is found.phases[2] and len(recording.frames) == 120
    assert measure_recordings((), pairs(of(1, seconds=0.4)), ARCH).drawn is None


def test_heads_and_readouts_are_fitted_on_train():
    train = pairs(*(of(i, bpm=60.0 + 10 * i) for i in range(4)))
    found = measure_recordings(train, pairs(of(9, bpm=85.0)), ARCH)
    assert found.fitted_on == 4
    assert found.phases[0]["end_diastole_error_pixels"] < 30
    assert found.phases[0]["end_systole_error_model"] < 30
    assert found.probes["view_accuracy_model"] == 1
    one_patient = measure_recordings(pairs(of(1), of(1)), pairs(of(9)), ARCH)
    assert one_patient.fitted_on == 2 and one_patient.probes == {}
    assert "end_diastole_error_model" not in one_patient.phases[0]


def test_a_patient_on_both_sides_is_refused():
    train = pairs(of(1), of(2))
    with pytest.raises(InputError, match=f"1 patients are in train and .*{2:016x}"):
        measure_recordings(train, pairs(of(2), of(3)), ARCH)
