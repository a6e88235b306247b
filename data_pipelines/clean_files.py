"""Many files, each cleaned and cut into the windows that a model takes, in order.

Windows lie side by side, as many as the recording holds, in its middle: what is left over is left
out, half of it at each end. Each takes the frames nearest to its samples, as a training clip does;
a recording shorter than a window is one window, and starts anew where it ends.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines import memory, workers
from data_pipelines.clip import Rejected
from data_pipelines.window import choose_frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """What is made of every file alike."""

    size: int  # S, pixels of a side
    frames: int  # T of a window
    window_seconds: float  # that they span; 0: consecutive frames
    colour: bool = False  # keep three channels
    precropped: bool = False  # nothing but the sector's inside was ever stored
    fps: float = 0.0  # of files that do not tell theirs; 0 = unknown


class Windows(NamedTuple):
    """The w windows of a recording."""

    frames: np.ndarray  # [n, S, S] or [n, S, S, 3] uint8, those that a window shows
    index: np.ndarray  # [w, T] which of them
    seconds: np.ndarray  # [w, T] since the recording's first frame, NaN = unknown
    fps: float  # frames a second, 0 = unknown
    whole: bool  # False: shorter than a window, and begun anew to fill one


class Refused(NamedTuple):
    """Why there is nothing of a file; names neither it nor a value of its header."""

    reason: str  # of clip.REASONS, or no_frame_rate
    detail: str


class File(NamedTuple):
    """A file as it was when somebody decided to read it."""

    path: Path
    stamps: tuple  # size and time of all that is read for it
    fps: float  # as its owner has it; 0: as the file tells


def stamped(path: Path, fps: float = 0.0) -> File:
    """A file as it is now; if it is another when it has been read, it is refused."""
    from data_pipelines.labels import Label  # takes half a second
    from data_pipelines.one_file import stamps

    return File(path, stamps(path, Label()), fps)


def read_many(files: Sequence[File], cut: Cut, count: int) -> Iterator[Windows | Refused]:
    """What becomes of each file, in order.

    Args:
      count: processes that read, two files each under way; 0: this one, a file at a time.
    """
    read = functools.partial(read_windows, cut=cut)
    if not count:
        yield from map(read, files)
        return
    for found in workers.map_in_order(read, files, count, time_limit):
        why = workers.lost(found)
        yield Refused("failed", why) if why else found


def time_limit(file: File) -> float:
    """Seconds after which a file's process will not come back."""
    return workers.patience(file.stamps)


def read_windows(file: File, cut: Cut) -> Windows | Refused:
    """Read, clean and cut one file; every failure is an outcome."""
    from data_pipelines.cleaned_file import read_cleaned
    from data_pipelines.labels import Label

    memory.keep_freed_blocks()
    try:
        clip = read_cleaned(
            file.path, Label(fps=file.fps), size=cut.size, colour=cut.colour, fps=cut.fps,
            precropped=cut.precropped,
        )  # fmt: skip
        if stamped(file.path, file.fps) != file:
            return Refused("changed", "while it was read")
    except Rejected as rejected:
        return Refused(rejected.reason, rejected.detail)
    except MemoryError:
        return Refused("failed", "needs more memory than a worker has")
    except Exception as error:  # a bad file never stops the run; the type carries no identity
        return Refused("failed", type(error).__name__)
    if cut.window_seconds and clip.times is None:
        return Refused("no_frame_rate", "nothing tells its frame rate: give it")
    return cut_windows(clip.frames, clip.times, clip.fps, cut)


def cut_windows(frames: np.ndarray, times: np.ndarray | None, fps: float, cut: Cut) -> Windows:
    """Windows of frames [n, S, S(, 3)] taken at `times` [n] in seconds; None = unknown."""
    at = times if cut.window_seconds else np.arange(len(frames), dtype=np.float64)
    window = cut.window_seconds or float(cut.frames)
    samples = int((at[-1] - at[0]) / (window / cut.frames) + 1e-6) + 1
    count = max(1, samples // cut.frames)
    index = choose_frames(at, count * cut.frames, count * window, None)  # [w*T]
    used, index = np.unique(index, return_inverse=True)
    index = index.reshape(count, cut.frames)  # [w, T]
    seconds = np.full(len(frames), np.nan) if times is None else times
    return Windows(frames[used], index, seconds[used][index], fps, samples >= cut.frames)
