"""What the trainings of decoders on labelled frames share."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from data_pipelines.labelled import LabelledClip
from echofm_jax.errors import InputError
from echofm_jax.pytorch import parameters
from echofm_jax.pytorch.finetune_run import Run
from echofm_jax.pytorch.fitting import Job, fit
from echofm_jax.pytorch.labelled_frames import epoch_length
from echofm_jax.pytorch.peak_memory import peak_memory
from echofm_jax.pytorch.recipe import Recipe
from echofm_jax.pytorch.segmentation_head import DenseHead

SLOWER = 0.1  # of the learning rate: what the encoder learns at, where it learns


def labelled_parts(run: Run, size: int, find: Callable, what: str) -> dict[str, Any]:
    """{split: what `find`(clips, size, colour) has found}.

    Raises InputError where a split has no clip with `what` is looked for.
    """
    parts = {split: find(clips, size, run.colour) for split, clips in run.splits.items()}
    for split, part in parts.items():
        if not part.clips:
            raise InputError(f"{what}: no {split} clip has one: label more patients")
    return parts


def rates(model: DenseHead, recipe: Recipe) -> list[dict]:
    """Groups of parameters that learn: what is new fast, an encoder that learns itself slowly."""
    new = {id(parameter) for parameter in model.decoder.parameters()}
    slower = SLOWER if recipe.mode == "full" else 1.0  # else only what was put into it learns
    groups = []
    for group in parameters.choose(model, recipe):
        for is_new, share in ((True, 1.0), (False, slower)):
            some = [p for p in group["params"] if (id(p) in new) == is_new]
            if some:
                groups.append({**group, "params": some, "lr": share * group["lr"]})
    return groups


def trained(
    run: Run, model: DenseHead, clips: Sequence[LabelledClip], *,
    batches: Callable[[int], Iterator], loss: Callable, score: Callable[[], float],
) -> dict:  # fmt: skip
    """Train by `fit`; what `finetune_output.facts` says of a training.

    Args:
      run, model: what is trained.
      clips: of the training set.
      batches, loss, score: as `fitting.Job` has them.
    """
    recipe, groups = run.recipe, rates(model, run.recipe)
    learning = sum(p.numel() for group in groups for p in group["params"])
    job = Job(
        module=model, groups=groups, batches=batches,
        steps=-(-epoch_length(clips) // recipe.batch), loss=loss, score=score, key=run.key,
    )  # fmt: skip
    with peak_memory(torch.device(run.device)) as peak:
        history = fit(job, recipe, run.seed, run.folder / "state.pt")
    if recipe.mode == "lora":
        parameters.merge(model)
    return {
        "epochs": history,
        "trained_parameters": learning,
        "peak_memory": dataclasses.asdict(peak),
    }
