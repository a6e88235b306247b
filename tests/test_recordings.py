"""Whole recordings: how records are sampled, slid over, and what their phase figures say."""

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import records, shards
from data_pipelines.clip_source import Record
from data_pipelines.loader import LoaderConfig
from echofm_jax import phase, recordings
from echofm_jax.architecture import Architecture
from echofm_jax.losses import pixel_prior

SIZE = 32
ARCH = Architecture(frames=16, size=SIZE, tubelet=4, patch=8, pred_frames=4)
INFO = shards.DatasetInfo(size=SIZE, encoding="zstd", colour=False, simulated=False, records={})


def beating_frames(turns):
    """A dark chamber in bright tissue [T, 32, 32], full at whole turns; it fills lower than it
    empties, so that no two phases look the same."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    y = y - 3 * np.sin(2 * np.pi * turns)[:, None, None]
    radius = 8 + 3 * np.cos(2 * np.pi * turns)
    wall = np.random.default_rng(0).integers(120, 200, (SIZE, SIZE))
    return np.where(np.hypot(y, x) < radius[:, None, None], 10, wall).astype(np.uint8)


def begins(counts):
    return (np.flatnonzero(np.diff(counts)) + 1).astype(np.int32)


def example(seconds=4.0, rate=30.0, bpm=75.0, labelled=True, **changes):
    """What a data set stores of a beating chamber."""
    times = np.arange(int(seconds * rate)) / rate
    turns = times * bpm / 60
    whole, halves = np.floor(turns), np.floor(turns - 0.5)
    return {
        "frames": [records.encode_frame(frame, "zstd") for frame in beating_frames(turns)],
        "times": times.astype(np.float32),
        "fps": np.float32(rate),
        "fps_source": "option",
        "mode": "b_mode",
        "sector": records.pack_sector(np.ones((SIZE, SIZE), bool)),
        "clip_id": "0" * 16,
        "patient_id": "0" * 16,
        "segment": 0,
        "segments": 1,
        "view": "",
        "ejection_fraction": np.float32(np.nan),
        "phase": (turns % 1 if labelled else np.zeros(0)).astype(np.float32),
        "end_diastole": begins(whole) if labelled else np.zeros(0, np.int32),
        "end_systole": begins(halves) if labelled else np.zeros(0, np.int32),
    } | changes


def record(**changes):
    serialized = shards.serialize(example(**changes))
    return Record(0, tf_example_pb2.Example.FromString(serialized), INFO)


def read(record, window_seconds=0.0):
    cfg = LoaderConfig(
        data_dir="", batch_size=1, frames=ARCH.frames, size=SIZE, tubelet=ARCH.tubelet, patch=8,
        window_seconds=window_seconds,
    )  # fmt: skip
    return recordings.read_recording(record, cfg)


def of_pixels(recording):
    """Phase figures with pixels in the model's place."""
    starts = np.arange(0, len(recording.frames) - ARCH.tubelet + 1, 2)
    z = recordings.pixel_features(recording.frames, starts, ARCH.tubelet)
    return recordings.phase_metrics(recording, {"model": phase.similarity(z)}, starts, ARCH.tubelet)


def test_every_frame_is_read_where_windows_are_in_frames():
    found = read(record())
    assert found.frames.shape == (120, SIZE, SIZE)
    assert found.seconds == pytest.approx(1 / 30)
    assert (found.frames == beating_frames(np.arange(120) / 30 * 75 / 60)).all()
    assert found.beats[-1] == pytest.approx(119 / 30 * 75 / 60, abs=1e-5)
    assert found.end_diastole.tolist() == [24, 48, 72, 96]


def test_windows_in_seconds_sample_all_of_the_recording():
    found = read(record(rate=60.0), window_seconds=0.8)  # 16 samples in 0.8 s: 20 a second
    assert len(found.frames) == 80 and found.seconds == pytest.approx(0.05)
    assert np.diff(found.beats) == pytest.approx(np.full(79, 0.05 * 75 / 60), abs=1e-5)
    assert found.end_diastole == pytest.approx([16, 32, 48, 64], abs=0.5)


def test_a_recording_shorter_than_a_window_is_not_wrapped():
    assert read(record(seconds=0.5)) is None
    assert read(record(seconds=0.5, rate=60.0), window_seconds=0.8) is None


def test_unknown_frame_rate_leaves_seconds_unknown():
    unknown = {"fps": np.float32(0), "times": np.zeros(0, np.float32)}
    for window_seconds in (0.0, 0.8):
        found = read(record(**unknown), window_seconds)
        assert np.isnan(found.seconds)
        figures = of_pixels(found)
        assert np.isnan(figures["heart_rate_model"]) and set(figures["same_phase"]) == {-1}
        assert figures["cross_beat_error_model"] < 3  # needs no seconds


def test_windows_slide_half_a_tubelet_at_a_time():
    calls = []

    def embed(clips):
        calls.append(clips.shape)
        tubelets = clips.reshape(len(clips), ARCH.steps, ARCH.tubelet, -1)
        return tubelets.mean((2, 3))[..., None]

    frames = np.arange(50, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    z, starts = recordings.embed_recording(embed, frames, ARCH)
    assert starts.tolist() == list(range(0, 47, 2))
    assert z[:, 0] == pytest.approx(starts + 1.5)
    assert set(calls) == {(recordings.WINDOWS, 16, 2, 2)}  # one shape, one compilation


def test_pixel_features_are_the_prior():
    frames = beating_frames(np.arange(16) / 20)
    z = recordings.pixel_features(frames, np.arange(0, 16, 4), 4)
    expected = np.asarray(pixel_prior(frames[None], 4, 1.0))[0]
    assert phase.similarity(z) == pytest.approx(expected, abs=1e-4)


def test_phase_figures_of_a_beating_chamber():
    found = of_pixels(read(record()))
    assert found["heart_rate_true"] == pytest.approx(75, rel=1e-3)
    assert found["heart_rate_error_model"] < 1 and found["heart_rate_found_model"] == 1
    assert found["cross_beat_error_model"] < 1 < 20 < found["cross_beat_error_chance"]
    assert found["end_diastole_error"] < 0.05 and found["end_systole_error"] < 0.05
    assert np.diff(found["end_diastole_seconds"]) == pytest.approx(0.8, abs=0.1)
    same = np.array(found["same_phase"])
    lag = np.abs(same - np.arange(len(same))) * found["seconds_per_step"]
    assert np.abs(lag / 0.8 - np.round(lag / 0.8)).max() < 0.1


def test_without_labels_candidates_are_still_given():
    found = of_pixels(read(record(labelled=False)))
    assert found["heart_rate_model"] == pytest.approx(75, abs=1)
    assert len(found["end_diastole_seconds"]) >= 3
    for name in ("heart_rate_true", "cross_beat_error_model", "end_diastole_error"):
        assert np.isnan(found[name])


def test_the_recording_with_most_beats_is_drawn():
    def embed(clips):
        return clips.reshape(len(clips), ARCH.steps, -1).astype(float)

    given = [read(record(seconds=2)), None, read(record(bpm=120.0)), read(record(labelled=False))]
    found, drawn = recordings.measure_recordings(given, {"model": embed}, ARCH)
    assert found[1] is None and len(found) == 4
    assert found[2]["heart_rate_model"] == pytest.approx(120, abs=2)
    assert {"cross_beat_error_model", "cross_beat_error_pixels"} <= found[0].keys()
    maps, path = drawn["similarity"], drawn["trajectory"]
    for part in (maps, path):
        assert np.ptp(part["beats"]) > 7  # four seconds at 120 a minute
        assert part["seconds_per_step"] == pytest.approx(2 / 30)
    assert (path["frames"] == given[2].frames).all() and path["tubelet"] == ARCH.tubelet
    assert maps["embedding"] == pytest.approx(phase.similarity(path["z"]))
    assert path["same_phase"].tolist() == found[2]["same_phase"]
    assert path["starts"].tolist() == list(range(0, 117, 2))
    assert recordings.measure_recordings([None], {"model": embed}, ARCH) == ([None], None)
