"""One file → what a model may see of it; what ingestion, `echofm embed` and finetuning share."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipelines import clean, readers, tracings
from data_pipelines.clean import Cleaned
from data_pipelines.clip import Clip, Rejected
from data_pipelines.labels import Label
from data_pipelines.tracings import BORDER


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanedFile:
    """The inside of a clip's sector, square, with its timing; the header's patient is still in it.

    T frames of S×S pixels.
    """

    frames: np.ndarray  # [T, S, S] uint8, or [T, S, S, 3] if colour was asked for
    sector: np.ndarray  # [S, S] bool
    times: np.ndarray | None  # [T] seconds from the first frame; None = unknown
    fps_source: str  # one of records.FPS_SOURCES
    mode: str  # one of records.MODES
    spacing: np.ndarray  # [2] float32, mm a pixel as stored, rows and columns; NaN = unknown
    masks: dict[int, np.ndarray]  # {frame: [S, S] uint8 label map}, of traced frames
    points: dict[int, np.ndarray]  # {frame: [4, 2] x, y of records.LANDMARKS; NaN = unknown}
    ecg_removed: bool
    patient: str  # as the header has it; empty = unknown
    heart_rate: float  # beats a minute, NaN = unknown
    r_waves: tuple[float, ...]  # seconds from the first frame
    note: str  # where the header contradicts itself

    @property
    def fps(self) -> float:
        """Mean frames a second, 0 = unknown."""
        if self.times is None or len(self.times) < 2:
            return 0.0
        return float((len(self.times) - 1) / self.times[-1])


def read_cleaned(
    path: Path,
    label: Label | None = None,
    *,
    size: int,
    colour: bool = False,
    fps: float = 0.0,
    precropped: bool = False,
) -> CleanedFile:
    """Read a file of any format, keep the inside of its sector, make it square.

    Args:
      path: the file.
      label: what its owner knows of it: frame rate, mm a pixel, outlines, label maps and points
        are used.
      size: S, the side in pixels.
      colour: keep three channels.
      fps: of files that do not tell theirs; 0 = unknown.
      precropped: nothing but the sector's inside was ever stored.

    Raises:
      Rejected: it is no usable echo clip; names no file and no value of a header.
    """
    label = label or Label()
    clip = readers.read(path, colour=colour, still=label.still)
    times, source = choose_times(clip, label.fps, fps)
    cleaned = clean.clean(clip, size=size, colour=colour, precropped=precropped)
    maps = {}
    if label.tracings or label.mask_files:
        maps = tracings.label_maps(label, clip.frames.shape[1:3], path.parent)
    return CleanedFile(
        frames=cleaned.frames,
        sector=cleaned.sector,
        times=times,
        fps_source=source,
        mode=cleaned.mode,
        spacing=cleaned.spacing((label.spacing, label.spacing) if label.spacing else clip.spacing),
        masks={frame: cleaned.place(pixels) for frame, pixels in maps.items()},
        points=place_points(label, clip.frames.shape[1:3], cleaned),
        ecg_removed=cleaned.ecg_removed,
        patient=clip.patient,
        heart_rate=clip.heart_rate,
        r_waves=clip.r_waves,
        note=clip.note,
    )


def place_points(label: Label, shape: tuple[int, int], cleaned: Cleaned) -> dict[int, np.ndarray]:
    """`CleanedFile.points` of a clip with frames of `shape`; what was cut away is NaN.

    Raises:
      Rejected: `label_mismatch`: a point outside the picture.
    """
    placed = {}
    for frame, places in label.points:
        points = np.array(places, np.float64)  # [4, 2] x, y
        if outside(points, [slice(side) for side in shape]).any():
            raise Rejected("label_mismatch", f"a point of frame {frame} outside the image")
        kept = ~outside(points, cleaned.box)
        placed[frame] = np.where(kept[:, None], cleaned.place_points(points), np.nan).astype("f4")
    return placed


def outside(points: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """Which of points [n, 2] x, y lie beyond a box of rows and columns; [n] bool."""
    low = np.array([side.start or 0 for side in box[::-1]]) - 0.5 - BORDER
    high = np.array([side.stop for side in box[::-1]]) - 0.5 + BORDER
    return np.any((points < low) | (points > high), axis=1)


def choose_times(clip: Clip, label_fps: float, option_fps: float) -> tuple[np.ndarray | None, str]:
    """(times [T] in seconds or None, source): the label's rate, the file's, the option's."""
    order = np.arange(len(clip.frames))
    if label_fps:
        return order / label_fps, "labels"
    if clip.fps:
        return clip.times, clip.fps_source
    if option_fps:
        return order / option_fps, "option"
    return None, "unknown"
