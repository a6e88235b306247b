"""A measured frame → what the decoder is trained on: its window, its place in it, its landmarks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.pytorch.clip_batches import read_ahead
from echofm_jax.pytorch.labelled_frames import LabelledFrames, framed
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
class Measured(LabelledFrames):
    """Where the points of a split are, and all but the pixels."""

    points: Sequence[Mapping[int, np.ndarray]]  # of each: {frame: [K, 2] x, y, NaN = unknown}
    diastole: Sequence[tuple[int, ...]]  # of each: which of those frames are end-diastole
    spacing: np.ndarray  # [clips, 2] mm a pixel, rows and columns, NaN = unknown

    sample = staticmethod(sample)


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
        clips=kept, numbers=tuple(map(sorted, points)), points=points, diastole=diastole,
        spacing=np.reshape(spacing, (-1, 2)),
    )  # fmt: skip
