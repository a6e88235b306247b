"""A measured frame → what the decoder is trained on: its window, its place in it, its landmarks."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.pytorch.clip_batches import read_ahead
from echofm_jax.pytorch.labelled_frames import (
    Places,
    framed,
    held_out_batches,
    spread_over,
    training_batches,
)
from echofm_jax.pytorch.modeling_echofm import EchoFMConfig


class Sample(NamedTuple):
    """One measured frame with the frames around it."""

    clip: np.ndarray  # [T, S, S] or [T, S, S, 3] uint8
    position: int  # of the measured frame in the clip
    points: np.ndarray  # [K, 2] float32 x, y, NaN = unknown


def sample(
    pixels: Pixels, frame: int, config: EchoFMConfig, rng: np.random.Generator | None
) -> Sample:
    """Of a measured `frame` of `pixels`; with `rng` changed, landmarks and all, see `framed`."""
    clip, position, warp, _ = framed(pixels, frame, config, rng)
    points = pixels.points[frame]
    if warp is not None:
        points = (points @ warp[:, :2].T + warp[:, 2]).astype(np.float32)
    return Sample(clip, position, points)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The clips of a split that have points, and all but their pixels."""

    clips: Sequence[LabelledClip]
    points: Sequence[Mapping[int, np.ndarray]]  # of each: {frame: [K, 2] x, y, NaN = unknown}
    diastole: Sequence[tuple[int, ...]]  # of each: which of those frames are end-diastole
    spacing: np.ndarray  # [clips, 2] mm a pixel, rows and columns, NaN = unknown

    def each(self, most: int = 0) -> list[tuple[int, int]]:
        """(clip, frame), see `spread_over`."""
        return spread_over(self.numbers, most)

    @property
    def numbers(self) -> list[list[int]]:
        """Of each clip's measured frames."""
        return [sorted(points) for points in self.points]


def find_points(clips: Sequence[LabelledClip], size: int, colour: bool) -> Measured:
    """Read every clip once; those without a point are left out."""

    def read(clip: LabelledClip) -> tuple[Mapping, tuple[int, ...], np.ndarray]:
        pixels = clip.read(size, colour)
        points = {f: p for f, p in pixels.points.items() if np.isfinite(p).any()}
        return points, pixels.end_diastole, pixels.spacing

    found = [
        (clip, *told) for clip, told in zip(clips, read_ahead(clips, read), strict=True) if told[0]
    ]
    kept, points, diastole, spacing = zip(*found, strict=True) if found else ((), (), (), ())
    return Measured(
        clips=kept, points=points, diastole=diastole, spacing=np.reshape(spacing, (-1, 2))
    )


def training_samples(
    measured: Measured, config: EchoFMConfig, *, batch: int, epoch: int, seed: int, colour: bool
) -> Iterator[list[Sample]]:
    """Batches of an epoch, see `training_batches`."""
    return training_batches(
        measured.clips, measured.numbers, _of(config),
        size=config.size, batch=batch, epoch=epoch, seed=seed, colour=colour,
    )  # fmt: skip


def held_out_samples(
    measured: Measured, which: Places, config: EchoFMConfig, *, batch: int, colour: bool
) -> Iterator[tuple[list[Sample], np.ndarray]]:
    """The (clip, frame) of `which` as an evaluation takes them, and their mm a pixel [B, 2]."""
    return held_out_batches(
        measured.clips, which, _of(config), size=config.size, batch=batch, colour=colour
    )


def _of(config: EchoFMConfig) -> Callable:
    return lambda pixels, frame, rng: sample(pixels, frame, config, rng)
