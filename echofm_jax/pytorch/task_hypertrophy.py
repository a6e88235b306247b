"""One training of `echofm finetune --task hypertrophy`: as `finetune_run`, of landmarks.

RUN/head/            the trained model, see head_folder; holds no name
    predictions.csv  lengths in every measured test frame, by its file's name: private
    metrics.json     figures; written last: the run is whole
    figures/         calipers on frames, found against labelled lengths
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from echofm_jax.pytorch import hypertrophy, hypertrophy_figures, hypertrophy_metrics
from echofm_jax.pytorch.finetune_output import facts, finish, predictions
from echofm_jax.pytorch.finetune_run import Run, encoder
from echofm_jax.pytorch.fitting import autocast, draw
from echofm_jax.pytorch.frame_training import labelled_parts, trained
from echofm_jax.pytorch.hypertrophy_head import (
    LENGTHS,
    THICK,
    EchoFMHypertrophy,
    HypertrophyConfig,
    lengths,
)
from echofm_jax.pytorch.hypertrophy_metrics import MAIN, Truth, summarise
from echofm_jax.pytorch.hypertrophy_samples import Measured, Sample, find_points
from echofm_jax.pytorch.labelled_frames import held_out_samples, training_samples
from echofm_jax.pytorch.scores import mean
from echofm_jax.pytorch.segmentation_figures import extremes

WATCHED = 2  # frames of a validation clip that every epoch is scored on
CODE = ("modeling_echofm.py", "trained_echofm.py", "segmentation_head.py", "hypertrophy_head.py")
log = logging.getLogger(__name__)


def run_hypertrophy(run: Run) -> dict:
    """Train, measure the test frames, write everything; returns what metrics.json holds."""
    recipe = run.recipe
    torch.manual_seed(draw(run.seed))
    eyes = encoder(run)
    parts = labelled_parts(run, eyes.config.size, find_points, "points")
    config = HypertrophyConfig(landmarks=run.outputs, colour=run.colour, **recipe.inserted)
    model = EchoFMHypertrophy(eyes, config).to(run.device).eval()
    training = train(run, model, parts["train"], parts["val"])
    test = parts["test"]
    truth = truth_of(test, test.each())
    unknown = {split: int(np.isnan(p.spacing).any(1).sum()) for split, p in parts.items()}
    if unknown["test"]:
        log.warning(
            "%d of %d test clips do not tell how large a pixel is: they are measured in pixels of "
            "the model's %d, and say nothing of hypertrophy",
            unknown["test"], len(test.clips), eyes.config.size,
        )  # fmt: skip
    places = answers(run, model, test, test.each())
    told = lengths(places, truth.spacing)
    figures = summarise(truth, places, told)
    chance = summarise(truth, *blind(truth_of(parts["train"], parts["train"].each()), truth))
    error = hypertrophy_metrics.measure(truth, places, told)[MAIN]
    write_predictions(run, test, truth, told, error)
    draw_figures(run, eyes.config.size, test, truth, places, told, error)
    metrics = facts(
        run, run.outputs, parts, training, figures,
        {name: score.value for name, score in chance.items()},
        frames={split: len(part.each()) for split, part in parts.items()},
        clips_in_pixels=unknown, thick_mm=THICK,
    )  # fmt: skip
    finish(run, model, metrics, figures, CODE, words(model))
    return metrics


def train(run: Run, model: EchoFMHypertrophy, measured: Measured, val: Measured) -> dict:
    """Watched by the landmarks' error in validation frames; see `trained`."""
    watched = val.each(WATCHED)
    truth = truth_of(val, watched)

    def batches(epoch: int) -> Iterator[list[Sample]]:
        return training_samples(
            measured, model.encoder.config, batch=run.recipe.batch, epoch=epoch, seed=run.seed,
            colour=run.colour,
        )  # fmt: skip

    def score() -> float:
        off = np.linalg.norm(answers(run, model, val, watched) - truth.points, axis=-1)
        return -mean(off)

    def loss(samples: list[Sample]) -> torch.Tensor:
        return hypertrophy.loss(model, samples)

    return trained(run, model, measured.clips, batches=batches, loss=loss, score=score)


def answers(
    run: Run, model: EchoFMHypertrophy, measured: Measured, which: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Landmarks [n, K, 2] in the (clip, frame) of `which`, in the recipe's precision."""
    found = []
    for samples, _ in held_out_samples(
        measured, which, model.encoder.config, batch=run.recipe.batch, colour=run.colour
    ):
        with autocast(model.decoder.out.weight.device, run.recipe.precision):
            found.append(hypertrophy.find(model, samples))
    return np.concatenate(found)


def truth_of(measured: Measured, which: Sequence[tuple[int, int]]) -> Truth:
    """What is known of the (clip, frame) of `which`."""
    clip = np.array([clip for clip, _ in which])
    return Truth(
        points=np.stack([measured.points[clip][frame] for clip, frame in which]),
        spacing=measured.spacing[clip],
        diastole=np.array([frame in measured.diastole[clip] for clip, frame in which]),
        clip=clip,
        patients=[measured.clips[i].patient for i in clip],
    )


def blind(train: Truth, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """What somebody answers who knows the training labels alone: places [n, K, 2], lengths [n, 3].

    Their means, of end-diastole and end-systole and in mm and pixels, each by itself.
    """
    usual = np.array([[mean(side) for side in place.T] for place in train.points.swapaxes(0, 1)])
    places = np.repeat(usual[None], len(truth.clip), 0)
    told = np.full((len(truth.clip), len(LENGTHS)), np.nan)
    for diastole in (True, False):
        for known in (True, False):
            here, own = ((t.diastole == diastole) & (t.known == known) for t in (truth, train))
            told[here] = [mean(values) for values in train.lengths[own].T]
    return places, told


def write_predictions(
    run: Run, test: Measured, truth: Truth, told: np.ndarray, error: np.ndarray
) -> None:
    """A line a measured test frame: file, frame, phase, unit, lengths found and labelled."""
    labelled = truth.lengths
    names = [*LENGTHS, *(f"{name}_labelled" for name in LENGTHS), MAIN]
    with predictions(run.folder) as write:
        write(["file", "frame", "phase", "unit", *names])
        for i, (clip, frame) in enumerate(test.each()):
            phase = "ED" if truth.diastole[i] else "ES"
            unit = "mm" if truth.known[i] else "pixels"
            values = [*told[i], *labelled[i], error[i]]
            shown = ["" if np.isnan(value) else f"{value:.2f}" for value in values]
            write([test.clips[clip].name, frame, phase, unit, *shown])


def draw_figures(
    run: Run, size: int, test: Measured, truth: Truth, places: np.ndarray, told: np.ndarray,
    error: np.ndarray,
) -> None:  # fmt: skip
    """Worst, median and best frame with calipers; found against labelled lengths."""
    cases = []
    for word, row in extremes(-error):
        clip, frame = test.each()[row]
        pixels = test.clips[clip].read(size, run.colour)
        caption = f"{word}: landmarks {error[row]:.1f} pixels off"
        cases.append((caption, pixels.frames[frame], truth.points[row], places[row]))
    folder = run.folder / "figures"
    hypertrophy_figures.overlays(folder / "calipers.png", cases, run.simulated)
    hypertrophy_figures.scatter(folder / "lengths.png", truth, told, run.simulated)


def words(model: EchoFMHypertrophy) -> dict[str, str]:
    """What the head's card says of it."""
    return {
        "title": f"{type(model.encoder).__name__} head: left-ventricular hypertrophy",
        "answers": "Measures septum, cavity and posterior wall in parasternal long axes: IVSd,\n"
        "LVIDd and LVPWd in mm, and in pixels where a file does not tell how large one is; a wall\n"
        f"of {THICK:g} mm or more is called hypertrophy (more than is normal in women or men, ASE "
        "and\nEACVI 2015; the diagnosis takes mass and body surface, which it does not know).",
        "loader": "EchoFMHypertrophy",
        "alone": "Without it, `from head.hypertrophy_head import EchoFMHypertrophy` (torch and\n"
        "safetensors) gives heatmaps for windows: `model(clips, which, positions)`; `landmarks`\n"
        "of the same file makes places of them.",
    }
