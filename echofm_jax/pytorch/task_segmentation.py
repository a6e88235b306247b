"""One training of `echofm finetune --task segmentation`: as `finetune_run`, of label maps.

RUN/head/            the trained segmenter, see head_folder; holds no name
    predictions.csv  Dice of every labelled test frame, by its file's name: private
    metrics.json     figures, by structure; written last: the run is whole
    figures/         labels beside predictions, and a recording that beats, outlined
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from echofm_jax.pytorch import segmentation, segmentation_figures
from echofm_jax.pytorch.finetune_output import facts, finish, predictions
from echofm_jax.pytorch.finetune_run import Run, encoder
from echofm_jax.pytorch.fitting import autocast, draw
from echofm_jax.pytorch.frame_training import labelled_parts, trained
from echofm_jax.pytorch.labelled_frames import held_out_samples, training_samples
from echofm_jax.pytorch.recipe import Recipe
from echofm_jax.pytorch.scores import mean
from echofm_jax.pytorch.segmentation_head import EchoFMSegmenter, SegmentationConfig
from echofm_jax.pytorch.segmentation_metrics import measure, summarise
from echofm_jax.pytorch.segmentation_samples import Frames, Sample, find_frames

WATCHED = 2  # frames of a validation clip that every epoch is scored on
CODE = ("modeling_echofm.py", "trained_echofm.py", "segmentation_head.py")
Answer = Callable[[Sequence[Sample]], np.ndarray]  # label maps [B, S, S] of B samples


def run_segmentation(run: Run) -> dict:
    """Train, label the test frames, write everything; returns what metrics.json holds."""
    recipe = run.recipe
    torch.manual_seed(draw(run.seed))
    eyes = encoder(run)
    parts = labelled_parts(run, eyes.config.size, find_frames, "masks")
    counts = parts["train"].counts
    structures = segmentation.labelled_structures(counts, run.outputs, "train")
    config = SegmentationConfig(structures=structures, colour=run.colour, **recipe.inserted)
    model = EchoFMSegmenter(eyes, config).to(run.device).eval()
    training = train(run, model, parts["train"], parts["val"])
    test = parts["test"]
    measured = evaluate(run, model, answer(model, recipe), test, test.each())
    usual = segmentation.renumber(counts.argmax(0), run.outputs, structures)  # [S, S]
    blind = evaluate(
        run, model, lambda some: np.repeat(usual[None], len(some), 0), test, test.each()
    )
    patients = [test.clips[clip].patient for clip, _ in test.each()]
    figures = summarise(measured, patients, structures)
    chance = summarise(blind, patients, structures)
    write_predictions(run, test, measured["dice"], structures)
    draw_figures(run, model, test, measured["dice"])
    missed = np.nansum(measured["missed"], 0).astype(int).tolist()
    metrics = facts(
        run, structures, parts, training, figures,
        {name: score.value for name, score in chance.items()},
        frames={split: len(part.each()) for split, part in parts.items()},
        missed=dict(zip(structures[1:], missed, strict=True)),  # frames, of those that hold it
    )  # fmt: skip
    finish(run, model, metrics, figures, CODE, words(model))
    return metrics


def train(run: Run, model: EchoFMSegmenter, frames: Frames, val: Frames) -> dict:
    """Watched by the mean Dice of validation frames; see `trained`."""
    watched = val.each(WATCHED)

    def batches(epoch: int) -> Iterator[list[Sample]]:
        for samples in training_samples(
            frames, model.encoder.config, batch=run.recipe.batch, epoch=epoch, seed=run.seed,
            colour=run.colour,
        ):  # fmt: skip
            yield [in_classes(run, model, sample) for sample in samples]

    def score() -> float:
        found = evaluate(run, model, answer(model, run.recipe), val, watched, distances=False)
        return mean(np.array([mean(values) for values in found["dice"].T]))

    def loss(samples: list[Sample]) -> torch.Tensor:
        return segmentation.loss(model, samples)

    return trained(run, model, frames.clips, batches=batches, loss=loss, score=score)


def in_classes(run: Run, model: EchoFMSegmenter, sample: Sample) -> Sample:
    """A sample with labels in numbers of the model's structures."""
    known = model.config.structures
    return sample._replace(labels=segmentation.renumber(sample.labels, run.outputs, known))


def answer(model: EchoFMSegmenter, recipe: Recipe) -> Answer:
    """The model's, in the recipe's precision."""

    def label(samples: Sequence[Sample]) -> np.ndarray:
        with autocast(model.decoder.out.weight.device, recipe.precision):
            return segmentation.label(model, samples)

    return label


def evaluate(
    run: Run, model: EchoFMSegmenter, told: Answer, frames: Frames,
    which: Sequence[tuple[int, int]], distances: bool = True,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What `measure` says of answers for the (clip, frame) of `which`, [n, K-1] each."""
    found = []
    for samples, spacing in held_out_samples(
        frames, which, model.encoder.config, batch=run.recipe.batch, colour=run.colour
    ):
        truth = np.stack([in_classes(run, model, sample).labels for sample in samples])
        count = len(model.config.structures)
        found.append(measure(told(samples), truth, spacing, count, distances))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def write_predictions(run: Run, test: Frames, dice: np.ndarray, structures: Sequence[str]) -> None:
    """A line a labelled test frame: file, number of the frame, Dice of each structure it holds."""
    with predictions(run.folder) as write:
        write(["file", "frame", *(f"dice_{name}" for name in structures[1:])])
        for (clip, frame), row in zip(test.each(), dice, strict=True):
            told = ["" if np.isnan(value) else f"{value:.4f}" for value in row]
            write([test.clips[clip].name, frame, *told])


def draw_figures(run: Run, model: EchoFMSegmenter, test: Frames, dice: np.ndarray) -> None:
    """Worst, median and best frame, and the recording of the median one, beating."""
    scores = np.array([mean(row) for row in dice])
    known = np.flatnonzero(np.isfinite(scores))
    words, rows = zip(*segmentation_figures.extremes(scores[known]), strict=True)
    rows = known[list(rows)]
    which = [test.each()[row] for row in rows]
    cases = []
    for samples, _ in held_out_samples(
        test, which, model.encoder.config, batch=1, colour=run.colour
    ):
        one = in_classes(run, model, samples[0])
        cases.append((one.clip[one.position], one.labels, answer(model, run.recipe)(samples)[0]))
    told = [
        (f"{word}: mean Dice {scores[row]:.2f}", *case)
        for word, row, case in zip(words, rows, cases, strict=True)
    ]
    folder = run.folder / "figures"
    segmentation_figures.overlays(
        folder / "overlays.png", told, model.config.structures, run.simulated
    )
    clip, _ = which[len(which) // 2]
    pixels = test.clips[clip].read(model.encoder.config.size, run.colour)
    maps = segmentation.label_frames(model, pixels.frames, pixels.fps)
    segmentation_figures.beating(
        folder / "beating.gif", pixels.frames, maps, pixels.fps, run.simulated
    )


def words(model: EchoFMSegmenter) -> dict[str, str]:
    """What the head's card says of it."""
    return {
        "title": f"{type(model.encoder).__name__} head: segmentation",
        "answers": f"Outlines {', '.join(model.config.structures[1:])} in every frame.",
        "loader": "EchoFMSegmenter",
        "alone": "Without it, `from head.segmentation_head import EchoFMSegmenter` (torch and\n"
        "safetensors) labels frames of windows: `model(clips, which, positions)`.",
    }
