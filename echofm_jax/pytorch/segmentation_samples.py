"""A labelled frame → what the decoder is trained on: its window, its place in it, its label map."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.pytorch.clip_batches import read_ahead
from echofm_jax.pytorch.labelled_frames import LabelledFrames, framed
from echofm_jax.pytorch.modeling_echofm import EchoFMConfig


class Sample(NamedTuple):
    """One labelled frame with the frames around it."""

    clip: np.ndarray  # [T, S, S] or [T, S, S, 3] uint8
    position: int  # of the labelled frame in the clip
    labels: np.ndarray  # [S, S] uint8, an index in the set's structures


def sample(
    pixels: Pixels, frame: int, config: EchoFMConfig, rng: np.random.Generator | None
) -> Sample:
    """Of a labelled `frame` of `pixels`; with `rng` changed, labels and all, see `framed`."""
    clip, position, warp, inside = framed(pixels, frame, config, rng)
    labels = pixels.masks[frame]
    if warp is not None:
        labels = inside * cv2.warpAffine(labels, warp, labels.shape, flags=cv2.INTER_NEAREST)
    return Sample(clip, position, labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames(LabelledFrames):
    """Where the label maps of a split are, and what they hold."""

    counts: np.ndarray  # [256, S, S] how many label maps have a value in a pixel
    held: np.ndarray  # [256] how many have it at all
    largest: np.ndarray  # [256] pixels of it where it is largest

    sample = staticmethod(sample)


def find_frames(clips: Sequence[LabelledClip], size: int, colour: bool) -> Frames:
    """Read every clip once; those without masks are left out."""
    kept, numbers = [], []
    counts = np.zeros((256, size, size), np.int32)
    held, largest = np.zeros((2, 256), np.int64)
    rows, columns = np.indices((size, size))

    def read(clip: LabelledClip) -> Pixels:
        return clip.read(size, colour)

    for clip, pixels in zip(clips, read_ahead(clips, read), strict=True):
        if pixels.masks:
            kept.append(clip)
            numbers.append(tuple(sorted(pixels.masks)))
        for labels in pixels.masks.values():
            counts[labels, rows, columns] += 1
            sizes = np.bincount(labels.ravel(), minlength=256)
            held += sizes > 0
            largest = np.maximum(largest, sizes)
    return Frames(
        clips=tuple(kept), numbers=tuple(numbers), counts=counts, held=held, largest=largest
    )
