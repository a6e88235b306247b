"""Frame times, heart rate and R waves of DICOM headers."""

import numpy as np
import pytest
from test_dicom import grey, write

from data_pipelines import dicom


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clip.dcm"


@pytest.mark.parametrize(
    ("tags", "steps", "source"),
    [
        ({"FrameTime": 20, "CineRate": 10}, [20, 20, 20], "FrameTime"),
        ({"FrameTimeVector": [0, 33, 50, 40], "CineRate": 9}, [33, 50, 40], "FrameTimeVector"),
        ({"FrameTimeVector": [30, 33, 50, 40]}, [33, 50, 40], "FrameTimeVector"),
        ({"FrameTime": 0, "FrameTimeVector": [0, 9, 8, 7]}, [9, 8, 7], "FrameTimeVector"),
        ({"FrameTimeVector": [0, 33], "CineRate": 50}, [20, 20, 20], "CineRate"),
        ({"FrameTimeVector": [0, 33, -1, 3], "CineRate": 50}, [20, 20, 20], "CineRate"),
        (
            {"CineRate": 0, "RecommendedDisplayFrameRate": 25},
            [40, 40, 40],
            "RecommendedDisplayFrameRate",
        ),
        ({"ActualFrameDuration": 20, "CineRate": 10}, [100] * 3, "CineRate"),
        ({"ActualFrameDuration": 20}, [20, 20, 20], "ActualFrameDuration"),
        (
            {"FrameTime": 20, "FrameTimeVector": [0, 9, 8, 7], "FrameIncrementPointer": 0x00181065},
            [9, 8, 7],
            "FrameTimeVector",
        ),
        ({"FrameTime": -33, "CineRate": 0}, None, "unknown"),
        ({}, None, "unknown"),
    ],
)
def test_frame_times(path, tags, steps, source):
    clip = dicom.read(write(path, grey(), **tags))
    assert clip.fps_source == source
    if steps is None:
        assert clip.times is None
    else:
        np.testing.assert_allclose(np.diff(clip.times), np.array(steps) / 1000)
        assert clip.times[0] == 0


@pytest.mark.parametrize("value", [b"NaN ", b"1e99", b"abc ", b"    "])
def test_frame_time_that_is_no_number(path, value):
    write(path, grey(), FrameTime="1234", CineRate=50)
    path.write_bytes(path.read_bytes().replace(b"1234", value))
    assert dicom.read(path).fps_source == "CineRate"


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({"FrameTime": 33.333, "CineRate": 30, "RecommendedDisplayFrameRate": 30}, ""),
        ({"FrameTime": 33.333, "CineRate": 33}, ""),
        ({"FrameTime": 33.333, "CineRate": 50}, "FrameTime 30.0, CineRate 50.0 frames/s"),
        (
            {"FrameTimeVector": [0, 10, 20, 30], "RecommendedDisplayFrameRate": 25},
            "FrameTimeVector 50.0, RecommendedDisplayFrameRate 25.0 frames/s",
        ),
        # A frame may be acquired faster than the next one follows, not slower.
        ({"FrameTime": 20, "ActualFrameDuration": 12}, ""),
        (
            {"FrameTime": 20, "ActualFrameDuration": 40},
            "FrameTime 50.0, ActualFrameDuration 25.0 frames/s",
        ),
        ({"FrameTime": 33.333, "CineRate": 0}, ""),
        ({}, ""),
    ],
)
def test_the_note_tells_which_tags_disagree(path, tags, note):
    assert dicom.read(write(path, grey(), **tags)).note == note


@pytest.mark.parametrize(
    ("value", "rate"), [(72, 72), (0, np.nan), (-1, np.nan), (19, np.nan), (301, np.nan)]
)
def test_heart_rate(path, value, rate):
    np.testing.assert_equal(dicom.read(write(path, grey(), HeartRate=value)).heart_rate, rate)


def test_heart_rate_that_is_missing_or_no_number(path):
    assert np.isnan(dicom.read(write(path, grey())).heart_rate)
    write(path, grey(), HeartRate="1234")
    path.write_bytes(path.read_bytes().replace(b"1234", b"SEC "))
    assert np.isnan(dicom.read(path).heart_rate)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([100, 900, 1700], (0.1, 0.9, 1.7)),
        ([-500, 300, 1100, 1900, 2700], (0.3, 1.1, 1.9)),  # around the clip, too
        ([0], (0.0,)),
        ([900, 100], ()),
        ([100, 200, 300], ()),  # 600 a minute
        ([100, np.nan], ()),
        ([], ()),
    ],
)
def test_r_waves(path, values, kept):
    clip = dicom.read(write(path, grey(21), FrameTime=100, RWaveTimeVector=values))
    assert clip.r_waves == pytest.approx(kept)
    if kept:  # without the frames' times nobody knows where they belong
        assert dicom.read(write(path, grey(21), RWaveTimeVector=values)).r_waves == ()
