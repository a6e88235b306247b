"""A labelled frame → what the decoder is trained on: its window, its place in it, its label map.

Hearts are never mirrored: what lies left is anatomy. They are turned, scaled, moved and made
brighter or darker a little, as another hand and another machine would, and the sector stays in
view whole.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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


class Sample(NamedTuple):
    """One labelled frame with the frames around it."""

    clip: np.ndarray  # [T, S, S] or [T, S, S, 3] uint8
    position: int  # of the labelled frame in the clip
    labels: np.ndarray  # [S, S] uint8, an index in the set's structures


def sample(
    pixels: Pixels, frame: int, config: EchoFMConfig, rng: np.random.Generator | None
) -> Sample:
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
    labels = pixels.masks[frame]
    if rng is not None:
        clip, labels = _augmented(clip, labels, pixels.sector, rng)
    return Sample(clip, position, labels)


def _augmented(
    clip: np.ndarray, labels: np.ndarray, sector: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The same change for all frames [T, S, S(, 3)] and the label map [S, S]."""
    side = sector.shape
    inside = sector.astype(np.uint8)
    warp = augment.draw_warp(inside, rng, AUGMENT)
    inside = cv2.warpAffine(inside, warp, side, flags=cv2.INTER_NEAREST)
    labels = cv2.warpAffine(labels, warp, side, flags=cv2.INTER_NEAREST)
    clip = np.stack([cv2.warpAffine(frame, warp, side, flags=cv2.INTER_LINEAR) for frame in clip])
    levels = augment.Augment(gain=AUGMENT.gain, gamma=AUGMENT.gamma)
    augment.augment_clip(clip, inside > 0, rng, levels)
    return clip, labels * inside


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames:
    """Where the labelled frames of a split are, and what their labels hold."""

    clips: Sequence[LabelledClip]  # those with masks
    numbers: Sequence[tuple[int, ...]]  # of each clip's labelled frames
    counts: np.ndarray  # [256, S, S] how many label maps have a value in a pixel
    held: np.ndarray  # [256] how many have it at all

    def each(self, most: int = 0) -> list[tuple[int, int]]:
        """(clip, frame) of all, or of `most` a clip, evenly spaced, the first and last among them.

        Of a traced half cycle those two are end-diastole and end-systole.
        """
        found = []
        for clip, numbers in enumerate(self.numbers):
            few = min(most or len(numbers), len(numbers))
            places = np.linspace(0, len(numbers) - 1, few).round().astype(int)
            found += [(clip, numbers[place]) for place in places]
        return found


def find_frames(clips: Sequence[LabelledClip], size: int, colour: bool) -> Frames:
    """Read every clip once; those without masks are left out."""
    kept, numbers = [], []
    counts = np.zeros((256, size, size), np.int32)
    held = np.zeros(256, np.int64)
    rows, columns = np.indices((size, size))

    def read(clip: LabelledClip) -> Pixels:
        return clip.read(size, colour)

    for clip, pixels in zip(clips, read_ahead(clips, read), strict=True):
        if pixels.masks:
            kept.append(clip)
            numbers.append(tuple(sorted(pixels.masks)))
        for labels in pixels.masks.values():
            counts[labels, rows, columns] += 1
            held[np.unique(labels)] += 1
    return Frames(clips=tuple(kept), numbers=tuple(numbers), counts=counts, held=held)


def training_samples(
    frames: Frames, config: EchoFMConfig, *, batch: int, epoch: int, seed: int, colour: bool
) -> Iterator[list[Sample]]:
    """Batches of an epoch, see `epoch_length`: a frame drawn of each clip, in an order of its own.

    So a clip of which every frame is traced does not count for more than one with two.
    """
    rng = np.random.default_rng(draw(seed, epoch))
    rounds = -(-epoch_length(frames) // len(frames.clips))
    order = np.concatenate([rng.permutation(len(frames.clips)) for _ in range(rounds)])
    order = order[: epoch_length(frames)]

    def read(begin: int) -> list[Sample]:
        found = []
        for place in range(begin, min(begin + batch, len(order))):
            own = np.random.default_rng(draw(seed, epoch, place))
            clip = order[place]
            pixels = frames.clips[clip].read(config.size, colour)
            found.append(sample(pixels, int(own.choice(frames.numbers[clip])), config, own))
        return found

    yield from read_ahead(range(0, len(order), batch), read)


def epoch_length(frames: Frames) -> int:
    """Samples of an epoch: a clip each, and at least LEAST."""
    return max(LEAST, len(frames.clips))


def held_out_samples(
    frames: Frames, which: Sequence[tuple[int, int]], config: EchoFMConfig, *, batch: int,
    colour: bool,
) -> Iterator[tuple[list[Sample], np.ndarray]]:  # fmt: skip
    """The (clip, frame) of `which` as an evaluation takes them, and their mm a pixel [B, 2]."""

    def read(begin: int) -> tuple[list[Sample], np.ndarray]:
        samples, spacing = [], []
        for clip, frame in which[begin : begin + batch]:
            pixels = frames.clips[clip].read(config.size, colour)
            samples.append(sample(pixels, frame, config, None))
            spacing.append(pixels.spacing)
        return samples, np.stack(spacing)

    yield from read_ahead(range(0, len(which), batch), read)
