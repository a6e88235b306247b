"""A measured frame → what the decoder is trained on: its window, its place in it, its landmarks.

Turned, scaled, moved and made brighter or darker as for segmentation, and never mirrored; the
sector stays in view whole.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines import augment
from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.pytorch import segmentation_windows as windows
from echofm_jax.pytorch.clip_batches import read_ahead
from echofm_jax.pytorch.fitting import draw
from echofm_jax.pytorch.modeling_echofm import EchoFMConfig
from echofm_jax.pytorch.segmentation_samples import AUGMENT, LEAST


class Sample(NamedTuple):
    """One measured frame with the frames around it."""

    clip: np.ndarray  # [T, S, S] or [T, S, S, 3] uint8
    position: int  # of the measured frame in the clip
    points: np.ndarray  # [K, 2] float32 x, y, NaN = unknown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The clips of a split that have points, and all but their pixels."""

    clips: Sequence[LabelledClip]
    points: Sequence[Mapping[int, np.ndarray]]  # of each: {frame: [K, 2] x, y, NaN = unknown}
    diastole: Sequence[tuple[int, ...]]  # of each: which of those frames are end-diastole
    spacing: np.ndarray  # [clips, 2] mm a pixel, rows and columns, NaN = unknown

    def each(self, most: int = 0) -> list[tuple[int, int]]:
        """(clip, frame) of all, or of `most` a clip, evenly spaced, the first and last of them."""
        found = []
        for clip, points in enumerate(self.points):
            numbers = sorted(points)
            few = min(most or len(numbers), len(numbers))
            places = np.linspace(0, len(numbers) - 1, few).round().astype(int)
            found += [(clip, numbers[place]) for place in places]
        return found


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


def sample(
    pixels: Pixels, frame: int, config: EchoFMConfig, rng: np.random.Generator | None
) -> Sample:
    """The window of `pixels` around its measured `frame`.

    With `rng` the frame is anywhere in it and all is augmented (training), without it as near the
    middle as the recording allows and nothing is (evaluation).
    """
    total = len(pixels.frames)
    if rng is None:
        position = windows.centre(config, total, frame, pixels.fps)
    else:
        position = int(rng.choice(windows.positions(config, total, frame, pixels.fps)))
    clip = pixels.frames[windows.window(config, total, frame, pixels.fps, position)]
    points = pixels.points[frame]
    if rng is not None:
        clip, points = _augmented(clip, points, pixels.sector, rng)
    return Sample(clip, position, points)


def _augmented(
    clip: np.ndarray, points: np.ndarray, sector: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The same change for all frames [T, S, S(, 3)] and the points [K, 2]."""
    side = sector.shape
    inside = sector.astype(np.uint8)
    warp = augment.draw_warp(inside, rng, AUGMENT)  # [2, 3]
    inside = cv2.warpAffine(inside, warp, side, flags=cv2.INTER_NEAREST)
    clip = np.stack([cv2.warpAffine(frame, warp, side, flags=cv2.INTER_LINEAR) for frame in clip])
    levels = augment.Augment(gain=AUGMENT.gain, gamma=AUGMENT.gamma)
    augment.augment_clip(clip, inside > 0, rng, levels)
    return clip, (points @ warp[:, :2].T + warp[:, 2]).astype(np.float32)


def epoch_length(measured: Measured) -> int:
    """Samples of an epoch: a clip each, and at least LEAST."""
    return max(LEAST, len(measured.clips))


def training_samples(
    measured: Measured, config: EchoFMConfig, *, batch: int, epoch: int, seed: int, colour: bool
) -> Iterator[list[Sample]]:
    """Batches of an epoch, see `epoch_length`: a frame drawn of each clip, in an order of its own.

    So a clip that was measured in many beats does not count for more than one with one.
    """
    rng = np.random.default_rng(draw(seed, epoch))
    rounds = -(-epoch_length(measured) // len(measured.clips))
    order = np.concatenate([rng.permutation(len(measured.clips)) for _ in range(rounds)])
    order = order[: epoch_length(measured)]

    def read(begin: int) -> list[Sample]:
        found = []
        for place in range(begin, min(begin + batch, len(order))):
            own = np.random.default_rng(draw(seed, epoch, place))
            clip = order[place]
            pixels = measured.clips[clip].read(config.size, colour)
            frame = int(own.choice(sorted(measured.points[clip])))
            found.append(sample(pixels, frame, config, own))
        return found

    yield from read_ahead(range(0, len(order), batch), read)


def held_out_samples(
    measured: Measured, which: Sequence[tuple[int, int]], config: EchoFMConfig, *, batch: int,
    colour: bool,
) -> Iterator[list[Sample]]:  # fmt: skip
    """The (clip, frame) of `which` as an evaluation takes them."""

    def read(begin: int) -> list[Sample]:
        return [
            sample(measured.clips[clip].read(config.size, colour), frame, config, None)
            for clip, frame in which[begin : begin + batch]
        ]

    yield from read_ahead(range(0, len(which), batch), read)
