"""When the frames of a DICOM clip were recorded, and when the heart beat."""

import math

import numpy as np
import pydicom

from data_pipelines.arrays import RATES

HEART_RATES = (20.0, 300.0)  # beats a minute
DISAGREE = 1.1  # ratio of two rates from which on they contradict each other

# Tag and its value → seconds from one frame to the next. The first whose value is possible counts.
# The last two are weaker: one is a wish for the display, and a frame that took so long to acquire
# may be followed by a pause.
SOURCES = {
    "FrameTime": lambda milliseconds: milliseconds / 1000,
    "FrameTimeVector": lambda milliseconds: np.atleast_1d(milliseconds) / 1000,
    "CineRate": lambda rate: 1 / rate,
    "RecommendedDisplayFrameRate": lambda rate: 1 / rate,
    "ActualFrameDuration": lambda milliseconds: milliseconds / 1000,
}
VECTOR = 0x00181065


def frame_times(header: pydicom.Dataset, count: int) -> tuple[np.ndarray | None, str, str]:
    """Seconds of each frame from the first, [T], the tag that says so, and a note.

    The order is that of `SOURCES`; FrameTimeVector goes first where FrameIncrementPointer names
    it. A tag whose value no machine can have is passed over. The note tells the rates of tags that
    differ by more than a tenth from the one taken; it holds nothing but their names and numbers.
    """
    order = sorted(SOURCES, key=lambda tag: not (tag == "FrameTimeVector" and _points(header)))
    known = {tag: steps for tag in order if (steps := _steps(header, tag, count)) is not None}
    if not known:
        return None, "unknown", ""
    source, steps = next(iter(known.items()))
    rates = {tag: 1 / float(steps.mean()) for tag, steps in known.items()}
    others = [
        f"{tag} {rate:.1f}"
        for tag, rate in rates.items()
        if (rate < rates[source] / DISAGREE)
        # A frame may take less time than passes until the next.
        or (rate > rates[source] * DISAGREE and tag != "ActualFrameDuration")
    ]
    note = ", ".join([f"{source} {rates[source]:.1f}", *others]) + " frames/s" if others else ""
    return np.concatenate([[0.0], np.cumsum(steps)]), source, note


def _points(header: pydicom.Dataset) -> bool:
    pointer = header.get("FrameIncrementPointer")
    return pointer == VECTOR


def _steps(header: pydicom.Dataset, tag: str, count: int) -> np.ndarray | None:
    """Seconds between the frames, [T - 1]."""
    if tag not in header:
        return None
    try:
        with np.errstate(all="ignore"):
            steps = SOURCES[tag](np.asarray(header[tag].value, np.float64))
    except (TypeError, ValueError):
        return None
    if steps.shape not in ((), (count,)):
        return None
    steps = np.broadcast_to(steps, count)[1:]  # the first frame follows no other
    if not np.all((steps >= 1 / RATES[1]) & (steps <= 1 / RATES[0])):
        return None
    return steps


def heart_rate(header: pydicom.Dataset) -> float:
    """Beats a minute; NaN where the header has none, or one that no heart has (0 = unknown)."""
    try:
        rate = float(header.HeartRate)
    except (AttributeError, TypeError, ValueError):
        return math.nan
    return rate if HEART_RATES[0] <= rate <= HEART_RATES[1] else math.nan


def r_waves(header: pydicom.Dataset, times: np.ndarray | None) -> tuple[float, ...]:
    """Seconds of the R waves from the first frame, those within the clip.

    None of them where the frames' times are unknown, or where two follow each other faster than
    any heart beats, or in disorder: then the numbers mean something else.
    """
    try:
        values = np.atleast_1d(np.asarray(header.RWaveTimeVector, np.float64)) / 1000
    except (AttributeError, TypeError, ValueError):
        return ()
    if times is None or values.ndim != 1 or not np.isfinite(values).all():
        return ()
    if np.any(np.diff(values) < 60 / HEART_RATES[1]):
        return ()
    return tuple(float(t) for t in values if 0 <= t <= times[-1])
