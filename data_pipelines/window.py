"""Which frames of a segment make up a training clip: a window in frames, or in seconds."""

import numpy as np


def frame_times(stamps: np.ndarray, num_frames: int, assumed_fps: float) -> np.ndarray:
    """Time of each frame in seconds, [n] float64: its stamp, else `i / assumed_fps`."""
    return stamps.astype(np.float64) if len(stamps) else np.arange(num_frames) / assumed_fps


def choose_frames(
    times: np.ndarray, frames: int, window: float, rng: np.random.Generator | None
) -> np.ndarray:
    """Frame indices of a window, [frames] int32.

    The window's samples are `window / frames` apart and each takes the nearest frame by its time.
    The first sample is a frame of the segment: with `rng` any from which the window fits, without
    it the one that centres the window. A segment shorter than the window starts anew where it
    ends (with `rng` from any frame, without it from the first).

    Args:
      times: [n] increasing frame times, in any unit; `arange(n)` counts in frames.
      frames: number of samples.
      window: the length of the window, in the unit of `times`.
      rng: draws the start; None is the deterministic window of an evaluation.
    """
    n = len(times)
    interval = (times[-1] - times[0]) / (n - 1) if n > 1 else window / frames
    samples = np.arange(frames) * (window / frames)
    # A start fits if the last sample is nearer to the last frame than to the first of a new round.
    fitting = int(np.searchsorted(times, times[-1] + interval / 2 - samples[-1], side="left"))
    start = max(fitting - 1, 0) // 2 if rng is None else int(rng.integers(fitting or n))
    edges = np.append((times[1:] + times[:-1]) / 2, times[-1] + interval / 2)  # [n]
    position = times[0] + (times[start] - times[0] + samples) % (interval * n)
    return (np.searchsorted(edges, position, side="right") % n).astype(np.int32)
