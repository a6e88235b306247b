"""Training and measuring an interactive segmenter: clicks simulated on what it got wrong.

A sample is a frame and one of its structures, drawn. It starts with a click, a box or a rough mask
that one click corrects, and is then corrected ROUNDS - 1 times by clicks, each answer shown to the
next. Every answer is trained by cross-entropy and Dice in equal parts; its quality by the squared
error to the IoU that it had.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echofm_jax.pytorch import clicks
from echofm_jax.pytorch.interactive_head import EchoFMInteractive, Seen
from echofm_jax.pytorch.prompt_encoder import Prompts, as_mask
from echofm_jax.pytorch.segmentation_samples import Sample

ROUNDS = 4  # answers to each training sample
SMALLEST = 10  # pixels of a structure that is trained on: less is a sliver that the edge left
STARTS = (0.5, 0.25, 0.25)  # how often a sample starts with a click, a box, a mask


class Batch(NamedTuple):
    """Frames and one structure of each."""

    samples: Sequence[Sample]  # B
    truth: np.ndarray  # [B, S, S] bool
    seed: int  # of its prompts


class Answer(NamedTuple):
    """Masks that follow from one prompt more, on the CPU."""

    masks: np.ndarray  # [B, S, S] bool
    quality: np.ndarray  # [B] expected IoU
    prompts: Prompts  # that led to them


def choose(samples: Sequence[Sample], values: Sequence[int], seed: int) -> Batch | None:
    """One of the structures `values` for every sample that has any; None where no sample has."""
    rng = np.random.default_rng(seed)
    kept, truth = [], []
    for sample in samples:
        sizes = np.bincount(sample.labels.ravel(), minlength=256)
        if here := [value for value in values if sizes[value] >= SMALLEST]:
            kept.append(sample)
            truth.append(sample.labels == rng.choice(here))
    return Batch(kept, np.stack(truth), int(rng.integers(2**48))) if kept else None


def look(model: EchoFMInteractive, samples: Sequence[Sample]) -> Seen:
    """The samples' labelled frames by the encoder."""
    clips = torch.cat([model.encoder.preprocess(s.clip) for s in samples])  # [B, 3, T, S, S]
    return model.look(clips, torch.tensor([s.position for s in samples], device=clips.device))


def loss(model: EchoFMInteractive, batch: Batch) -> Tensor:
    """Mean over the rounds of all answers to a batch."""
    rng = np.random.default_rng(batch.seed)
    seen = look(model, batch.samples)
    truth = torch.from_numpy(batch.truth).to(model.device)
    prompts = first_prompts(batch.truth, rng)
    total = torch.zeros((), device=model.device)
    for number in range(ROUNDS):
        logits, quality = model(seen, prompts)
        logits = logits.float()
        total = total + cost(logits, quality.float(), truth)
        if number < ROUNDS - 1:
            prompts = prompts._replace(masks=as_mask(logits.detach()).cpu())
            prompts = corrected(prompts, (logits > 0).cpu().numpy(), batch.truth, rng)
    return total / ROUNDS


def cost(logits: Tensor, quality: Tensor, truth: Tensor) -> Tensor:
    """Of logits [B, S, S] and expected IoU [B] against truth [B, S, S]."""
    y, p = truth.float(), logits.sigmoid()
    dice = (2 * (p * y).sum((1, 2)) + 1) / (p.sum((1, 2)) + y.sum((1, 2)) + 1)  # [B]
    found = logits > 0
    both = (found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp(min=1)  # [B]
    bits = F.binary_cross_entropy_with_logits(logits, y)
    return bits + (1 - dice).mean() + F.mse_loss(quality, both)


def first_prompts(truth: np.ndarray, rng: np.random.Generator) -> Prompts:
    """A training's start for structures [B, S, S]: STARTS says how often it is what."""
    prompts = Prompts.none(len(truth), truth.shape[-1])
    starts = rng.choice(3, len(truth), p=STARTS)
    predicted = np.zeros_like(truth)
    for i in np.flatnonzero(starts == 1):
        prompts.boxes[i] = torch.from_numpy(clicks.around(truth[i], rng))
        predicted[i] = truth[i]  # nothing is to be corrected: it gets no click yet
    for i in np.flatnonzero(starts == 2):
        predicted[i] = clicks.rough(truth[i], rng)
        prompts.masks[i] = torch.from_numpy(2 * predicted[i].astype(np.float32) - 1)
    return corrected(prompts, predicted, truth, rng)


def corrected(
    prompts: Prompts, predicted: np.ndarray, truth: np.ndarray, rng: np.random.Generator | None
) -> Prompts:
    """One click more on what is wrong in masks [B, S, S]; `rng`: see `clicks.next_click`."""
    each = [clicks.next_click(y, p, rng) for y, p in zip(truth, predicted, strict=True)]
    given = torch.tensor(each)  # [B, 3]
    return prompts.clicked(given[:, :2].float(), given[:, 2])


@torch.no_grad()
def after_clicks(
    model: EchoFMInteractive, seen: Seen, truth: np.ndarray, count: int
) -> Iterator[Answer]:
    """Answers after 1 to `count` clicks, each at the centre of the largest error before it."""
    prompts = Prompts.none(len(truth), truth.shape[-1])
    masks = np.zeros_like(truth)
    for _ in range(count):
        prompts = corrected(prompts, masks, truth, None)
        logits, quality = model(seen, prompts)
        logits = logits.float().cpu()
        masks = (logits > 0).numpy()
        yield Answer(masks, quality.float().cpu().numpy(), prompts)
        prompts = prompts._replace(masks=as_mask(logits))


@torch.no_grad()
def from_box(model: EchoFMInteractive, seen: Seen, truth: np.ndarray) -> Answer:
    """Answers to the boxes that just hold the structures."""
    boxes = torch.from_numpy(np.stack([clicks.around(each) for each in truth]))
    prompts = Prompts.none(len(truth), truth.shape[-1])._replace(boxes=boxes)
    logits, quality = model(seen, prompts)
    return Answer((logits > 0).cpu().numpy(), quality.float().cpu().numpy(), prompts)
