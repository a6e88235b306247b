"""Training a clip head: in closed form on a frozen encoder, or by gradients, then from there on."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_pipelines.labelled import LabelledClip
from echofm_jax.errors import InputError
from echofm_jax.pytorch import linear_head, parameters
from echofm_jax.pytorch.clip_batches import Batch, studies_of, training_batches
from echofm_jax.pytorch.clip_loss import clip_loss
from echofm_jax.pytorch.fitting import Job, draw, fit
from echofm_jax.pytorch.head_echofm import EchoFMHead
from echofm_jax.pytorch.maps import recording_maps
from echofm_jax.pytorch.recipe import Recipe

TOGETHER = 256  # clips or examinations that a head answers for at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """R labelled clips of one split, E units that are answered for: clips or examinations."""

    clips: Sequence[LabelledClip]
    targets: np.ndarray  # [R] indices of names, int64, or numbers, float64
    maps: Tensor  # [R, P, 2D] by the encoder before it learned anything
    studies: Tensor | None  # [R] numbers of examinations; None: clips answer for themselves

    @property
    def first(self) -> np.ndarray:
        """[E] the first clip of each unit."""
        if self.studies is None:
            return np.arange(len(self.clips))
        return np.unique(self.studies.numpy(), return_index=True)[1]


def part(clips: Sequence[LabelledClip], targets: np.ndarray, maps: Tensor, study: bool) -> Part:
    """Clips with what is known of them; `study` puts those of an examination together.

    Raises InputError if clips of an examination are labelled differently.
    """
    numbers = None
    if study:
        numbers = torch.zeros(len(clips), dtype=torch.long)
        for number, rows in enumerate(studies_of(clips).values()):
            numbers[rows] = number
            if len(set(targets[rows])) > 1:
                names = ", ".join(clips[row].name for row in rows)
                raise InputError(
                    f"clips of one examination have different labels ({names}): give them one, or "
                    "answer for each clip, --config.study=False"
                )
    return Part(clips=clips, targets=targets, maps=maps, studies=numbers)


def train_clips(
    model: EchoFMHead, train: Part, val: Part, recipe: Recipe, *,
    seed: int, colour: bool, state_file: Path, key: str,
) -> list[dict]:  # fmt: skip
    """Train the head, and of the encoder what the recipe says; returns what each epoch was.

    A linear head is first fitted to what the encoder sees before it learns anything, so that
    learning does not begin by spoiling it (arXiv 2202.10054); frozen, it is done then.
    """
    head, device = model.head, model.encoder.cls_token.device
    if model.config.task == "number":
        head.offset.fill_(float(train.targets.mean()))
        head.unit.fill_(float(train.targets.std()) or 1.0)
    head.cpu()
    linear_head.standardise(head, train.maps)
    balanced = recipe.class_weights == "balanced"
    if recipe.head == "linear":
        targets = train.targets
        if model.config.task == "number":
            targets = (targets - float(head.offset)) / float(head.unit)
        patients = [clip.patient for clip in train.clips]
        linear_head.fit_linear(head, train.maps, targets, patients, balanced)
    head.to(device)
    if recipe.mode == "frozen" and recipe.head == "linear" and not recipe.study:
        return []
    if not val.clips:
        raise InputError("no validation clips to stop early by: label more patients")
    weights = torch.ones(len(model.config.outputs), device=device)
    if balanced and model.config.task != "number":
        counts = np.bincount(train.targets[train.first], minlength=len(weights))
        mean = len(train.first) / np.count_nonzero(counts)
        weights = torch.from_numpy(np.float32(mean / np.maximum(counts, 1))).to(device)
    frozen = recipe.mode == "frozen"

    def loss(batch: Batch) -> Tensor:
        read = model.head if frozen else model
        inputs = (batch.clips.to(device),) if frozen else (
            batch.clips.to(device), batch.recordings.to(device)
        )  # fmt: skip
        studies = None if batch.studies is None else batch.studies.to(device)
        y = read(*inputs, studies)
        return clip_loss(head, y, batch.targets.to(device), weights, recipe.label_smoothing)

    def batches(epoch: int) -> Iterator[Batch]:
        if frozen:
            return map_batches(train, recipe, seed, epoch)
        return training_batches(
            train.clips, train.targets.tolist(), model.encoder, batch=recipe.batch, epoch=epoch,
            seed=seed, colour=colour, study=recipe.clips_per_study if recipe.study else 0,
            in_a_row=head.decoder_windows(model.encoder.config.steps),
        )  # fmt: skip

    def score() -> float:
        maps = val.maps if frozen else recording_maps(
            model, val.clips, batch=recipe.batch, colour=colour, quiet=True
        )  # fmt: skip
        targets = torch.from_numpy(val.targets[val.first]).to(device)
        return -float(clip_loss(head, raw(model, maps, val.studies), targets, weights))

    groups = parameters.choose(model, recipe)
    model.to(device)
    job = Job(
        module=model, groups=groups, batches=batches, steps=-(-len(train.first) // recipe.batch),
        loss=loss, score=score, key=key, fitted=recipe.head == "linear",
    )  # fmt: skip
    history = fit(job, recipe, seed, state_file)
    if recipe.mode == "lora":
        parameters.merge(model)
    return history


def map_batches(train: Part, recipe: Recipe, seed: int, epoch: int) -> Iterator[Batch]:
    """Batches of maps in place of clips, for a frozen encoder."""
    rng = np.random.default_rng(draw(seed, epoch))
    numbers = np.arange(len(train.clips)) if train.studies is None else train.studies.numpy()
    order = rng.permutation(len(train.first))
    for begin in range(0, len(order), recipe.batch):
        units = order[begin : begin + recipe.batch]
        rows = np.concatenate([np.flatnonzero(numbers == unit) for unit in units])
        place = {unit: i for i, unit in enumerate(units)}
        studies = torch.tensor([place[numbers[row]] for row in rows])
        yield Batch(
            clips=train.maps[rows].float(),
            recordings=torch.arange(len(rows)),
            studies=None if train.studies is None else studies,
            targets=torch.from_numpy(train.targets[train.first[units]]),
        )


@torch.no_grad()
def raw(model: EchoFMHead, maps: Tensor, studies: Tensor | None) -> Tensor:
    """What the head gives of maps [R, P, 2D], on its device, some clips or examinations a time."""
    device = model.encoder.cls_token.device
    numbers = torch.arange(len(maps)) if studies is None else studies
    found = []
    for first in range(0, int(numbers.max()) + 1, TOGETHER):
        rows = (numbers >= first) & (numbers < first + TOGETHER)
        own = None if studies is None else (numbers[rows] - first).to(device)
        found.append(model.head(maps[rows].float().to(device), own))
    return torch.cat(found)


@torch.no_grad()
def answers(model: EchoFMHead, asked: Part, maps: Tensor) -> np.ndarray:
    """[E, names] probabilities, or [E, 1] the number, of a split by its maps [R, P, 2D]."""
    return model.head.answers(raw(model, maps, asked.studies)).cpu().double().numpy()
