"""Training, measuring and using a segmenter: the steps that are its own.

A frame is trained on with Dice and cross-entropy in equal parts (MONAI's DiceCELoss), Dice over the
whole batch and without the background: so a structure that a view does not show costs nothing.
Structures that no training label holds are not classes: where only the left ventricle was traced,
everything else is background by name only, and nobody is told that an atrium is not one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from echofm_jax.errors import InputError
from echofm_jax.pytorch import segmentation_windows as windows
from echofm_jax.pytorch.segmentation_head import DenseHead, EchoFMSegmenter
from echofm_jax.pytorch.segmentation_samples import Sample

dice_and_cross_entropy = DiceCELoss(
    include_background=False, to_onehot_y=True, softmax=True, batch=True
)


def labelled_structures(
    counts: np.ndarray, structures: Sequence[str], split: str
) -> tuple[str, ...]:
    """The background and those structures that any label of a split holds, in their order.

    Args:
      counts: [256, S, S] how many label maps have a value in a pixel.
      structures: names of the values, background first.
      split: whose labels they are, for messages.

    Raises InputError where there are none, or values beyond `structures`.
    """
    found = counts.any((1, 2))
    highest = int(np.flatnonzero(found).max(initial=0))
    if highest >= len(structures):
        raise InputError(
            f"masks: a pixel is {highest}, of {len(structures)} structures: name {highest + 1}, "
            "background first"
        )
    if not found[1:].any():
        raise InputError(f"masks: no pixel of the {split} clips is labelled: give clips with masks")
    return tuple(name for k, name in enumerate(structures) if k == 0 or found[k])


def renumber(labels: np.ndarray, structures: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """A label map in numbers of `structures`, in those of `classes`; all others are background."""
    table = np.array(
        [classes.index(name) if name in classes else 0 for name in structures], np.uint8
    )
    return table[labels]


def logits(model: DenseHead, samples: Sequence[Sample]) -> Tensor:
    """[B, K, S, S] of the labelled frame of each sample: its `clip` and `position` are read."""
    device = model.decoder.out.weight.device
    clips = torch.cat([model.encoder.preprocess(s.clip) for s in samples])  # [B, 3, T, S, S]
    positions = torch.tensor([s.position for s in samples], device=device)
    return model(clips, torch.arange(len(samples), device=device), positions)


def loss(model: EchoFMSegmenter, samples: Sequence[Sample]) -> Tensor:
    """Of a batch of samples whose labels are in the model's classes."""
    predicted = logits(model, samples).float()
    labels = torch.from_numpy(np.stack([s.labels for s in samples])).long()
    return dice_and_cross_entropy(predicted, labels[:, None].to(predicted.device))


@torch.no_grad()
def label(model: EchoFMSegmenter, samples: Sequence[Sample]) -> np.ndarray:
    """Label maps [B, S, S] uint8 of the samples' labelled frames."""
    return logits(model, samples).argmax(1).byte().cpu().numpy()


@torch.no_grad()
def logits_of_frames(
    model: DenseHead, frames: np.ndarray, fps: float
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Numbers [n] and logits [n, K, S, S] of a recording's frames, each once, window by window.

    Args:
      model: says what a window is.
      frames: [T, S, S] or [T, S, S, 3] uint8, cleaned.
      fps: frames a second, 0 = unknown.
    """
    device = model.decoder.out.weight.device
    for chosen, places in windows.side_by_side(model.encoder.config, len(frames), fps):
        clip = model.encoder.preprocess(frames[chosen])  # [1, 3, T, S, S]
        positions = torch.from_numpy(places).to(device)
        yield chosen[places], model(clip, torch.zeros_like(positions), positions)


def label_frames(model: EchoFMSegmenter, frames: np.ndarray, fps: float) -> np.ndarray:
    """Label maps [T, S, S] uint8 of every frame of a recording, see `logits_of_frames`."""
    size = model.encoder.config.size
    maps = np.zeros((len(frames), size, size), np.uint8)
    for numbers, found in logits_of_frames(model, frames, fps):
        maps[numbers] = found.argmax(1).byte().cpu().numpy()
    return maps
