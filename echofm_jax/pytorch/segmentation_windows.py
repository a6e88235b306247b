"""Windows of a recording around a labelled frame, as EchoFM takes them.

A window's samples are `config.window_seconds / config.frames` apart, as in training; where that or
the frame rate is not known they are consecutive frames. The labelled frame is always one of them,
exactly, for its mask is that of no other moment. A recording shorter than the window starts anew
where it ends, as in `modeling_echofm.preprocess`; a still image is repeated.
"""

from collections.abc import Iterator

import numpy as np

from echofm_jax.pytorch.modeling_echofm import EchoFMConfig


def positions(config: EchoFMConfig, total: int, frame: int, fps: float) -> range:
    """Where in a window of a recording of `total` frames its `frame` can be: never empty.

    Those for which the window lies within the recording; where none does, all.
    """
    stride = _stride(config, fps)
    # The first sample is nearest to frame 0 or a later one, the last to total - 1 or an earlier.
    highest = int((frame + 0.5) // stride)
    lowest = config.frames - int(-((frame + 0.5 - total) // stride))
    inside = range(max(0, lowest), min(config.frames - 1, highest) + 1)
    return inside or range(config.frames)


def window(config: EchoFMConfig, total: int, frame: int, fps: float, position: int) -> np.ndarray:
    """Frame numbers [config.frames] of the window whose sample `position` is `frame`."""
    samples = frame + _stride(config, fps) * (np.arange(config.frames) - position)
    return np.floor(samples % total + 0.5).astype(np.int64) % total


def centre(config: EchoFMConfig, total: int, frame: int, fps: float) -> int:
    """The position nearest to the window's middle: that of an evaluation."""
    allowed = positions(config, total, frame, fps)
    return min(max(config.frames // 2, allowed[0]), allowed[-1])


def side_by_side(
    config: EchoFMConfig, total: int, fps: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Windows in which every frame of a recording is once.

    Yields frame numbers [config.frames] and the positions [n] whose frames no window before had.
    Where a window leaves out frames (a high frame rate) the next ones lie between its samples.
    """
    missing = np.ones(total, bool)
    while missing.any():
        frame = int(missing.argmax())
        position = positions(config, total, frame, fps)[0]
        frames = window(config, total, frame, fps, position)
        found, first = np.unique(frames, return_index=True)
        yield frames, first[missing[found]]
        missing[found] = False


def _stride(config: EchoFMConfig, fps: float) -> float:
    """Frames of the recording from one sample of the window to the next."""
    return config.window_seconds * fps / config.frames if config.window_seconds and fps else 1.0
