"""Labelled clips of a small data set of shards."""

import dataclasses
import pickle

import numpy as np
import pytest
import small_echo as small

from data_pipelines import clip_source, records
from data_pipelines.bad_records import BadRecord
from data_pipelines.labelled_sources import labelled_set
from echofm_jax.errors import InputError

MEASURED = np.full(len(records.MEASUREMENTS), np.nan, np.float32)
MEASURED[records.MEASUREMENTS.index("ivs_d")] = 1.25


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    fields = {
        "measurements": MEASURED, "aortic_stenosis": 2, "aortic_regurgitation": 0,
        "spacing": np.float32([0.5, 0.25]), "ejection_fraction": np.float32(np.nan),
    }  # fmt: skip
    splits = {"train": [0, 1, small.example(4, "zstd", **fields)], "test": [6]}
    return small.write(tmp_path_factory.mktemp("shards") / "data", splits, "zstd")


def test_every_record_with_all_that_is_known(data):
    found = labelled_set(data)
    assert [clip.name for clip in found.clips] == ["train/0", "train/1", "train/2", "test/0"]
    assert [clip.split for clip in found.clips] == ["train"] * 3 + ["test"]
    assert found.simulated and found.structures == records.STRUCTURES
    first, second, third, _ = found.clips
    assert first.targets == {"view": "A4C", "rhythm": "sinus", "ejection_fraction": 50.0}
    assert first.patient == second.patient == f"{256:016x}" != third.patient
    assert first.study == first.patient
    assert third.targets == {
        "view": "A4C", "rhythm": "atrial_fibrillation", "ivs_d": 1.25,
        "aortic_stenosis": "significant", "aortic_regurgitation": "none",
    }  # fmt: skip
    assert all(
        type(value) in (str, float) for clip in found.clips for value in clip.targets.values()
    )


def test_pixels_as_they_are_stored(data):
    pixels = pickle.loads(pickle.dumps(labelled_set(data).clips[2].read))(small.SIZE, False)
    assert np.array_equal(pixels.frames, small.speckle(4))
    assert np.array_equal(pixels.sector, small.FAN)
    assert pixels.fps == pytest.approx(40) and pixels.spacing.tolist() == [0.5, 0.25]
    assert list(pixels.masks) == [0] and np.array_equal(pixels.masks[0], small.FAN)


@pytest.mark.parametrize("size", [32, 96])
def test_pixels_at_another_size(data, size):
    pixels = labelled_set(data).clips[2].read(size, True)
    assert pixels.frames.shape == (10, size, size, 3) and np.ptp(pixels.frames, axis=-1).max() == 0
    nearest = ((np.arange(size) + 0.5) * small.SIZE / size).astype(int)
    expected = small.FAN[nearest][:, nearest]
    assert np.array_equal(pixels.sector, expected) and np.array_equal(pixels.masks[0], expected)
    assert pixels.masks[0].dtype == np.uint8
    np.testing.assert_allclose(pixels.spacing, np.array([0.5, 0.25]) * small.SIZE / size)
    small_frame = small.speckle(4)[0][nearest][:, nearest]
    assert np.abs(pixels.frames[0, ..., 0].astype(int) - small_frame)[size // 2].mean() < 4


def test_colour_is_shown_in_grey_where_that_is_asked_for(tmp_path):
    frames = small.speckle(1, colour=True)
    made = small.example(1, "zstd", frames)
    data = small.write(tmp_path / "data", {"train": [made]}, "zstd", colour=True, simulated=False)
    found = labelled_set(data)
    assert not found.simulated
    assert np.array_equal(found.clips[0].read(small.SIZE, True).frames, frames)
    grey = found.clips[0].read(small.SIZE, False).frames
    assert grey.shape == frames.shape[:3]
    assert np.abs(grey - frames @ np.array([0.299, 0.587, 0.114])).max() < 1


def test_a_set_without_masks_names_no_structures(tmp_path):
    made = small.example(1) | {"masks": [], "mask_frames": np.zeros(0, np.int32)}
    assert labelled_set(small.write(tmp_path / "data", {"val": [made]})).structures == ()
    some = labelled_set(small.write(tmp_path / "some", {"val": [made, 2]}))
    assert [clip.masked for clip in some.clips] == [False, True]
    assert some.structures == records.STRUCTURES


def test_damage_is_named(data, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_source, "PAUSES", (0.01,))
    broken = small.copy(data, tmp_path / "data")
    clip = labelled_set(broken).clips[1]
    small.flip(small.shard(broken), 1)
    with pytest.raises(BadRecord, match="record 1 cannot be read"):
        clip.read(64, False)
    with pytest.raises(InputError, match="record 1 cannot be read"):
        labelled_set(broken)


def test_labels_of_its_own_are_not_overruled(data, tmp_path):
    with pytest.raises(InputError, match="holds its labels"):
        labelled_set(data, labels=tmp_path / "labels.csv")


def test_a_process_opens_a_split_once(data):
    from data_pipelines.labelled_shards import opened

    opened.cache_clear()
    reader = labelled_set(data).clips[0].read
    reader(64, False)
    dataclasses.replace(reader, index=1)(64, False)
    assert opened.cache_info().misses == 1
