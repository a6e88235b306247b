import numpy as np
import pytest

from data_pipelines.window import choose_frames, frame_times


def starts(times, frames, window):
    return {
        int(choose_frames(times, frames, window, np.random.default_rng(seed))[0])
        for seed in range(300)
    }


def test_consecutive_frames_start_wherever_they_fit():
    times = np.arange(40.0)
    frames = choose_frames(times, 32, 32, np.random.default_rng(0))
    assert np.array_equal(np.diff(frames), np.ones(31))
    assert frames.dtype == np.int32
    assert starts(times, 32, 32) == set(range(9))


def test_without_random_numbers_the_window_is_central():
    assert choose_frames(np.arange(40.0), 32, 32, None)[0] == 4
    assert choose_frames(np.arange(100) / 50, 32, 1.28, None)[0] == 18  # frames 18 to 80 of 0 to 99


def test_segment_as_long_as_the_window_is_taken_whole():
    assert starts(np.arange(32.0), 32, 32) == {0}
    assert np.array_equal(choose_frames(np.arange(32.0), 32, 32, None), np.arange(32))


@pytest.mark.parametrize("seed", range(20))
def test_50_fps_clip_over_128_s_gives_every_second_frame(seed):
    times = (np.arange(128) / 50).astype(np.float32)  # as stored
    frames = choose_frames(times, 32, 1.28, np.random.default_rng(seed))
    assert np.array_equal(np.diff(frames), np.full(31, 2))


def test_30_fps_clip_over_128_s_spans_38_frames_without_a_gap():
    times = np.arange(100) / 30
    frames = choose_frames(times, 32, 1.28, np.random.default_rng(1))
    assert set(np.diff(frames)) == {1, 2}
    assert frames[-1] - frames[0] == round(1.24 * 30)


def test_slow_clip_repeats_frames():
    frames = choose_frames(np.arange(40) / 10, 32, 1.6, None)  # 10 fps sampled at 20
    assert set(np.diff(frames)) == {0, 1}
    assert len(set(frames)) in (16, 17)


def test_irregular_time_stamps_take_the_nearest_frame():
    times = np.array([0.0, 0.033, 0.066, 0.116, 0.150, 0.200, 0.233, 0.266, 0.3, 0.4])
    for seed in range(10):
        frames = choose_frames(times, 4, 0.4, np.random.default_rng(seed))
        samples = times[frames[0]] + np.array([0, 0.1, 0.2, 0.3])
        assert frames.tolist() == [int(np.abs(times - s).argmin()) for s in samples]


def test_short_segment_starts_anew_after_its_last_interval():
    assert choose_frames(np.arange(20.0), 32, 32, None).tolist() == [*range(20), *range(12)]
    frames = choose_frames(np.arange(20) / 20, 32, 1.6, None)  # 1 s held, 1.6 s asked for
    assert frames.tolist() == [*range(20), *range(12)]


def test_short_segment_wraps_from_any_frame():
    times = np.arange(5.0)
    assert starts(times, 32, 32) == set(range(5))
    frames = choose_frames(times, 32, 32, np.random.default_rng(3))
    assert np.array_equal(frames, (frames[0] + np.arange(32)) % 5)


def test_one_frame_is_repeated():
    assert choose_frames(np.zeros(1), 4, 1.0, np.random.default_rng(0)).tolist() == [0, 0, 0, 0]


def test_time_stamps_win_over_the_assumed_rate():
    stamps = np.array([0, 0.1, 0.3], np.float32)
    assert np.array_equal(frame_times(stamps, 3, 10.0), stamps.astype(np.float64))
    assert np.array_equal(frame_times(np.array([], np.float32), 3, 10.0), [0, 0.1, 0.2])
