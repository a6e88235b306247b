"""Clips with what somebody knows of them, wherever they lie: what heads are trained on."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """What a head may see of one clip: T cleaned frames of S×S pixels."""

    frames: np.ndarray  # [T, S, S] uint8, or [T, S, S, 3]
    sector: np.ndarray  # [S, S] bool
    fps: float  # frames a second, 0 = unknown
    spacing: np.ndarray  # [2] float32, mm a pixel (rows, columns), NaN = unknown
    masks: Mapping[int, np.ndarray]  # {frame: [S, S] uint8, an index in the set's `structures`}
    # {frame: [4, 2] float32, x, y of records.LANDMARKS, pixel centres are integers, NaN = unknown}
    points: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    end_diastole: tuple[int, ...] = ()  # which of these frames show it; the others end-systole


class Reader(Protocol):
    """Reads the pixels of one clip; picklable, for it runs in worker processes."""

    def __call__(self, size: int, colour: bool) -> Pixels:
        """Pixels of side `size`.

        Raises:
          Rejected: the file is no usable clip.
          InputError: what we wrote ourselves, a shard or a cached clip, was damaged since.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """One clip. `name` and `patient` are its owner's words: they never reach a trained head."""

    name: str  # path below the source, or SPLIT/NUMBER of a data set of shards
    patient: str  # clips of one patient are never in two splits
    study: str = ""  # clips of one examination; empty: each its own
    split: str = ""  # train, val or test where the owner says so
    targets: Mapping[str, str | float]  # column: class name or number; unknown ones are absent
    read: Reader
    masked: bool = False  # whether any of its frames has a label map


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """All clips of a source."""

    clips: tuple[LabelledClip, ...]
    structures: tuple[str, ...] = ()  # names of the masks' values, background first; () = no masks
    simulated: bool = False


def word(value: str | float) -> str:
    """A target as the name of a class."""
    return value if isinstance(value, str) else f"{value:g}"
