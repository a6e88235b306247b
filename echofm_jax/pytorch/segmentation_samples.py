"""A labelled frame → what the decoder is trained on: its window, its place in it, its label map.

Hearts are never mirrored: what lies left is anatomy. They are turned, scaled, moved and made
brighter or darker a little, as another hand and another machine would, and the sector stays in
view whole.
"""

from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines import augment
from data_pipelines.labelled import Pixels
from echofm_jax.pytorch import segmentation_windows as windows
from echofm_jax.pytorch.modeling_echofm import EchoFMConfig

AUGMENT = augment.Augment(scale=0.15, rotate=15.0, gain=0.2, gamma=0.3)


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
