"""Labelled frames of recordings: which are shown when, in which window, and how they are changed.

What is known of a frame – a label map, landmarks – is the task's own. Hearts are never mirrored:
what lies left is anatomy. They are turned, scaled, moved and made brighter or darker a little, as
another hand and another machine would, and the sector stays in view whole.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from data_pipelines import augment
from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.pytorch import segmentation_windows as windows
from echofm_jax.pytorch.clip_batches import read_ahead
from echofm_jax.pytorch.fitting import draw
from echofm_jax.pytorch.modeling_echofm import EchoFMConfig

AUGMENT = augment.Augment(scale=0.15, rotate=15.0, gain=0.2, gamma=0.3)
LEAST = 200  # samples of an epoch: of fewer clips several frames are drawn
Places = Sequence[tuple[int, int]]  # (clip, frame)


class Framed(NamedTuple):
    """A labelled frame in its window."""

    clip: np.ndarray  # [T, S, S] or [T, S, S, 3] uint8
    position: int  # of the frame in the clip
    warp: np.ndarray | None  # [2, 3] of places x, y that the same change moves; None: no change
    inside: np.ndarray | None  # [S, S] uint8 the sector after it


def framed(
    pixels: Pixels, frame: int, config: EchoFMConfig, rng: np.random.Generator | None
) -> Framed:
    """The window of `pixels` around its labelled `frame`.

    With `rng` the frame is anywhere in it and all is augmented (training), without it as near the
    middle as the recording allows and nothing is (evaluation).
    """
    total = len(pixels.frames)
    if rng is None:
        position = windows.centre(config, total, frame, pixels.fps)
    else:
        position = int(rng.choice(windows.positions(config, total, frame, pixels.fps)))
    clip = pixels.frames[windows.window(config, total, frame, pixels.fps, position)]
    if rng is None:
        return Framed(clip, position, None, None)
    side, inside = pixels.sector.shape, pixels.sector.astype(np.uint8)
    warp = augment.draw_warp(inside, rng, AUGMENT)  # [2, 3]
    inside = cv2.warpAffine(inside, warp, side, flags=cv2.INTER_NEAREST)
    clip = np.stack([cv2.warpAffine(frame, warp, side, flags=cv2.INTER_LINEAR) for frame in clip])
    levels = augment.Augment(gain=AUGMENT.gain, gamma=AUGMENT.gamma)
    augment.augment_clip(clip, inside > 0, rng, levels)
    return Framed(clip, position, warp, inside)


def spread_over(numbers: Sequence[Sequence[int]], most: int = 0) -> list[tuple[int, int]]:
    """(clip, frame) of all labelled frames `numbers` of clips, or of `most` a clip, evenly spaced.

    The first and last are among them: of a traced half cycle end-diastole and end-systole.
    """
    found = []
    for clip, frames in enumerate(numbers):
        few = min(most or len(frames), len(frames))
        places = np.linspace(0, len(frames) - 1, few).round().astype(int)
        found += [(clip, frames[place]) for place in places]
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledFrames:
    """The clips of a split that have labelled frames; subclasses add what is known of these."""

    clips: Sequence[LabelledClip]
    numbers: Sequence[Sequence[int]]  # of each clip's labelled frames
    # What is trained on, of a clip's pixels and the rest that `framed` takes.
    sample: ClassVar[Callable[[Pixels, int, EchoFMConfig, np.random.Generator | None], Any]]

    def each(self, most: int = 0) -> list[tuple[int, int]]:
        """(clip, frame), see `spread_over`."""
        return spread_over(self.numbers, most)


def epoch_length(clips: Sequence[LabelledClip]) -> int:
    """Samples of an epoch: a clip each, and at least LEAST."""
    return max(LEAST, len(clips))


def training_samples(
    frames: LabelledFrames, config: EchoFMConfig, *, batch: int, epoch: int, seed: int, colour: bool
) -> Iterator[list]:
    """Batches of an epoch, see `epoch_length`: a frame drawn of each clip, in an order of its own.

    So a clip of which every frame is labelled does not count for more than one with two. `seed` and
    `epoch` tell the order, frames and changes.
    """
    clips = frames.clips
    rng = np.random.default_rng(draw(seed, epoch))
    rounds = -(-epoch_length(clips) // len(clips))
    order = np.concatenate([rng.permutation(len(clips)) for _ in range(rounds)])
    order = order[: epoch_length(clips)]

    def read(begin: int) -> list:
        found = []
        for place in range(begin, min(begin + batch, len(order))):
            own = np.random.default_rng(draw(seed, epoch, place))
            clip = order[place]
            pixels = clips[clip].read(config.size, colour)
            found.append(frames.sample(pixels, int(own.choice(frames.numbers[clip])), config, own))
        return found

    yield from read_ahead(range(0, len(order), batch), read)


def held_out_samples(
    frames: LabelledFrames, which: Places, config: EchoFMConfig, *, batch: int, colour: bool
) -> Iterator[tuple[list, np.ndarray]]:
    """Samples of the (clip, frame) of `which`, in their order, and their mm a pixel [B, 2]."""

    def read(begin: int) -> tuple[list, np.ndarray]:
        samples, spacing = [], []
        for clip, frame in which[begin : begin + batch]:
            pixels = frames.clips[clip].read(config.size, colour)
            samples.append(frames.sample(pixels, frame, config, None))
            spacing.append(pixels.spacing)
        return samples, np.stack(spacing)

    yield from read_ahead(range(0, len(which), batch), read)
