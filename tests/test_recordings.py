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
        "rhythm": "",
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


def test_a_recording_shorter_than_a_window_fills_one_and_has_no_events():
    for found in (read(record(seconds=0.5)), read(record(seconds=0.7, rate=60.0), 0.8)):
        assert not found.whole and len(found.frames) == ARCH.frames
        assert np.isnan(found.beats).all()
        assert len(found.end_diastole) == len(found.end_systole) == 0
    assert read(record()).whole


def test_what_is_known_comes_along():
    known = {"view": "A4C", "rhythm": "atrial_fibrillation", "ejection_fraction": np.float32(41)}
    found = read(record(**known))
    assert (found.view, found.rhythm) == ("A4C", "atrial_fibrillation")
    assert found.ejection_fraction == 41 and found.patient == "0" * 16 and found.fps == 30
    assert read(record(fps=np.float32(0), times=np.zeros(0, np.float32))).fps != found.fps
    assert found.without_frames().frames.size == 0


def test_a_recording_is_labelled_if_a_head_could_learn_from_it():
    assert not read(record(labelled=False)).labelled
    for known in (
        {"view": "A4C"},
        {"rhythm": "sinus"},
        {"ejection_fraction": np.float32(41)},
        {"end_systole": np.array([40], np.int32)},
    ):
        assert read(record(labelled=False, **known)).labelled


def test_steps_of_several_recordings_lie_half_a_tubelet_apart():
    calls = []

    def embed(clips):
        calls.append(clips.shape)
        tubelets = clips.reshape(len(clips), ARCH.steps, ARCH.tubelet, -1)
        return tubelets.mean((2, 3))[..., None], tubelets.max((2, 3))[..., None]

    frames = [np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((1, 32, 32), np.uint8)
              for n in (50, 17)]  # fmt: skip
    long, short = recordings.describe(frames, {"model": embed}, ARCH)
    assert long.starts.tolist() == list(range(4, 39, 2))  # 0 and 42 have no neighbour so close
    assert long.steps["model"][:, 0] == pytest.approx(long.starts + 1.5)
    assert long.features["model"][:, 0] == pytest.approx(long.starts + 3)
    assert long.steps["pixels"].shape == long.features["pixels"].shape == (18, 1024)
    # Windows side by side begin at 0, 12 and 24: their steps at 0, 4, … 36, some of them twice.
    beside = np.add.outer([0, 12, 24], [0, 4, 8, 12]) + 3
    assert long.video["model"] == pytest.approx([beside.mean(), beside.std()])
    assert short.starts.tolist() == [0, 4, 8, 12]
    assert short.steps["model"][:, 0] == pytest.approx(short.starts + 1.5)
    assert calls == [(recordings.WINDOWS, 16, 32, 32)]  # six windows and one, in one shape
    (coarse,) = recordings.describe(frames[:1], {"model": embed}, ARCH, fine=False)
    assert coarse.starts.tolist() == list(range(0, 37, 4)) and len(calls) == 2
    assert coarse.steps["model"][:, 0] == pytest.approx(coarse.starts + 1.5)
    for source in ("model", "pixels"):  # a head fitted on the one reads the other
        assert coarse.video[source] == pytest.approx(long.video[source])


def test_pixel_features_are_the_prior():
    frames = beating_frames(np.arange(16) / 20)
    z = recordings.pixel_features(frames, np.arange(0, 16, 4), 4)
    expected = np.asarray(pixel_prior(frames[None], 4, 1.0))[0]
    assert phase.similarity(z) == pytest.approx(expected, abs=1e-4)
