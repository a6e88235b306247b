"""Windows of recordings: which frames, from when to when, and why a file has none."""

import os
from pathlib import Path

import numpy as np
import pytest
from test_sector import fan_screen
from test_volumes import mhd

from data_pipelines import workers
from data_pipelines.clean_files import Cut, File, Refused, Windows, cut_windows, read_many, stamped
from data_pipelines.cleaned_file import read_cleaned

CUT = Cut(size=32, frames=8, window_seconds=1.0)


def numbered(total: int) -> np.ndarray:
    """[T, 1, 1] uint8: the value of a frame is its number."""
    return np.arange(total, dtype=np.uint8).reshape(-1, 1, 1)


def shown(windows: Windows) -> list[list[int]]:
    return windows.frames[windows.index][..., 0, 0].tolist()


def test_windows_lie_side_by_side_in_the_middle():
    """24 frames a second, a sample every third: 2 windows take 48 of 60 frames."""
    windows = cut_windows(numbered(60), np.arange(60) / 24, 24.0, CUT)
    assert windows.whole and windows.fps == 24
    assert shown(windows) == [list(range(7, 31, 3)), list(range(31, 55, 3))]
    np.testing.assert_allclose(windows.seconds, np.arange(7, 55, 3).reshape(2, 8) / 24)
    assert len(windows.frames) == 16  # what no window shows is not sent on


def test_consecutive_frames_need_no_rate():
    windows = cut_windows(numbered(19), None, 0.0, Cut(size=32, frames=8, window_seconds=0.0))
    assert shown(windows) == [list(range(1, 9)), list(range(9, 17))]
    assert np.isnan(windows.seconds).all() and windows.fps == 0


def test_a_recording_shorter_than_a_window_starts_anew():
    windows = cut_windows(numbered(5), np.arange(5) / 8, 8.0, CUT)
    assert shown(windows) == [[0, 1, 2, 3, 4, 0, 1, 2]] and not windows.whole
    exact = cut_windows(numbered(8), np.arange(8) / 8, 8.0, CUT)
    assert shown(exact) == [list(range(8))] and exact.whole


def test_frames_of_a_varying_rate_are_taken_by_their_times():
    """The second half is twice as fast."""
    times = np.r_[np.arange(8) / 8, 1 + np.arange(16) / 16]
    windows = cut_windows(numbered(24), times, 11.0, CUT)
    assert shown(windows)[1][1:] == [10, 12, 14, 16, 18, 20, 22]


def save(path: Path, seed: int = 1, fps: float | None = 20.0) -> Path:
    known = {} if fps is None else {"fps": fps}
    np.savez(path, clip=fan_screen(seed).frames, **known)
    return path


@pytest.mark.parametrize("count", [0, 1])
def test_files_are_read_in_order_and_what_fails_is_told(tmp_path, count):
    files = [save(tmp_path / "a.npz"), save(tmp_path / "b.npz", fps=None), tmp_path / "c.mp4"]
    files[2].write_bytes(b"no video")
    files.append(save(tmp_path / "d.npz", seed=2))
    tasks = [stamped(file) for file in files]
    save(files[3], seed=3)
    os.utime(files[3], ns=(0, 0))  # another time
    good, rateless, broken, changed = read_many(tasks, CUT, count)
    clip = read_cleaned(files[0], size=32)
    np.testing.assert_array_equal(
        good.frames[good.index], clip.frames[np.rint(good.seconds * 20).astype(int)]
    )
    assert rateless.reason == "no_frame_rate" and broken.reason == "unreadable"
    assert changed == Refused("changed", "while it was read")


def test_the_owners_rate_helps_files_without_one(tmp_path):
    cut = Cut(size=32, frames=8, window_seconds=0.5, fps=40.0)
    (windows,) = read_many([stamped(save(tmp_path / "b.npz", fps=None))], cut, 0)
    assert windows.fps == pytest.approx(40) and not windows.whole


def kill_this_process(*_) -> None:
    os.kill(os.getpid(), 9)


def test_a_process_that_dies_costs_its_file(tmp_path):
    """Its pickled name is resolved to something that kills the worker which unpickles it."""

    class Deadly(type(tmp_path)):
        def __reduce__(self):
            return kill_this_process, ()

    files = [stamped(save(tmp_path / "a.npz")), File(Deadly(tmp_path / "b.npz"), (), 0.0)]
    good, dead = read_many(files, CUT, 1)
    assert isinstance(good, Windows)
    assert dead == Refused("failed", "its process died")


def test_a_file_that_hangs_is_refused(tmp_path, monkeypatch):
    """The pixels of a MetaImage come from a pipe that nobody writes into."""
    monkeypatch.setattr(workers, "PATIENCE", 3.0)
    path = mhd(tmp_path / "a.mhd")
    path.with_suffix(".raw").unlink()
    os.mkfifo(path.with_suffix(".raw"))
    hung, good = read_many([stamped(path), stamped(save(tmp_path / "b.npz"))], CUT, 1)
    assert hung == Refused("failed", "took far too long and was stopped")
    assert isinstance(good, Windows)
