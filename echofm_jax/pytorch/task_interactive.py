"""One training of `echofm finetune --task interactive_segmentation`: as `task_segmentation`.

RUN/head/            the trained segmenter, see head_folder; holds no name
    predictions.csv  Dice of every structure of every labelled test frame, by file: private
    metrics.json     figures, by structure; written last: the run is whole
    figures/         Dice against clicks, and frames as clicks come
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from echofm_jax.errors import InputError
from echofm_jax.pytorch import interactive, interactive_figures
from echofm_jax.pytorch import interactive_metrics as metrics_of
from echofm_jax.pytorch.finetune_output import facts, finish, predictions
from echofm_jax.pytorch.finetune_run import Run, encoder
from echofm_jax.pytorch.fitting import autocast, draw
from echofm_jax.pytorch.frame_training import labelled_parts, trained
from echofm_jax.pytorch.interactive_head import EchoFMInteractive, InteractiveConfig, Seen
from echofm_jax.pytorch.interactive_metrics import CLICKS, TOLD, Measured
from echofm_jax.pytorch.labelled_frames import held_out_samples, training_samples
from echofm_jax.pytorch.segmentation import labelled_structures
from echofm_jax.pytorch.segmentation_figures import extremes
from echofm_jax.pytorch.segmentation_samples import Frames, find_frames

WATCHED = 1  # frames of a validation clip that every epoch is scored on: each is clicked often
CODE = (
    "modeling_echofm.py", "trained_echofm.py", "segmentation_head.py", "prompt_encoder.py",
    "interactive_session.py", "interactive_head.py",
)  # fmt: skip
log = logging.getLogger(__name__)


def run_interactive(run: Run) -> dict:
    """Train, outline the test frames, write everything; returns what metrics.json holds."""
    recipe = run.recipe
    torch.manual_seed(draw(run.seed))
    eyes = encoder(run)
    parts = labelled_parts(run, eyes.config.size, find_frames, "masks")
    structures = trained_structures(run, parts)
    config = InteractiveConfig(structures=structures, colour=run.colour, **recipe.inserted)
    model = EchoFMInteractive(eyes, config).to(run.device).eval()
    training = train(run, model, parts["train"], parts["val"])
    test = parts["test"]
    told = evaluate(run, model, test, test.each(), areas(run, structures, parts["train"]))
    patients = [test.clips[clip].patient for clip, _, _ in told.rows]
    scores, blind = metrics_of.summarise(told, patients, structures, run.leave_out)
    write_predictions(run, test, told)
    draw_figures(run, model, test, told, scores, blind)
    shown = {
        name: score
        for name, score in scores.items()
        if "_after_" not in name or int(name.split("_after_")[1].split("_")[0]) in TOLD
    }
    metrics = facts(
        run, structures, parts, training, shown, {name: blind[name] for name in shown},
        left_out=run.leave_out,
        frames={split: len(part.each()) for split, part in parts.items()},
        outlines=len(told.rows),
        curve=[scores[f"dice_after_{k + 1}"].value for k in range(CLICKS)],
    )  # fmt: skip
    finish(run, model, metrics, shown, CODE, words(model))
    return metrics


def trained_structures(run: Run, parts: dict[str, Frames]) -> tuple[str, ...]:
    """Names of those that the training labels hold, without slivers and the one left out.

    Raises InputError where there are none, or --leave_out names none of the labels.
    """
    train = parts["train"]
    found = labelled_structures(train.counts, run.outputs, "train")[1:]
    if run.leave_out:
        tested = labelled_structures(parts["test"].counts, run.outputs, "test")[1:]
        if run.leave_out not in tested:
            raise InputError(
                f"--leave_out {run.leave_out}: no test frame has it: choose one of "
                f"{', '.join(tested)}"
            )
        found = tuple(name for name in found if name != run.leave_out)
        if not found:
            raise InputError(
                f"--leave_out {run.leave_out}: no other structure is labelled to train on: give "
                "clips with two or more"
            )
    slivers = [n for n in found if train.largest[run.outputs.index(n)] < interactive.SMALLEST]
    if slivers:
        told = f"{', '.join(slivers)}: below {interactive.SMALLEST} pixels in every training frame"
        if len(slivers) == len(found):
            raise InputError(f"masks: {told}: raise --config.size, or give larger outlines")
        log.warning("left out: %s", told)
    return tuple(name for name in found if name not in slivers)


def train(run: Run, model: EchoFMInteractive, frames: Frames, val: Frames) -> dict:
    """Watched by the mean Dice over the first clicks; see `trained`."""
    structures = model.config.structures
    values = [run.outputs.index(name) for name in structures]
    watched = val.each(WATCHED)
    size = areas(run, structures, frames)
    size.pop(run.leave_out, None)  # it chooses no epoch, either

    def batches(epoch: int) -> Iterator[interactive.Batch]:
        found = training_samples(
            frames, model.encoder.config, batch=run.recipe.batch, epoch=epoch, seed=run.seed,
            colour=run.colour,
        )  # fmt: skip
        for step, samples in enumerate(found):
            batch = interactive.choose(samples, values, draw(run.seed, epoch, step, "structure"))
            if batch:
                yield batch

    def score() -> float:
        found = evaluate(run, model, val, watched, size)
        whose = np.array([structure for _, _, structure in found.rows])
        return float(np.mean([found.dice[whose == name].mean() for name in np.unique(whose)]))

    def loss(batch: interactive.Batch) -> torch.Tensor:
        return interactive.loss(model, batch)

    return trained(run, model, frames.clips, batches=batches, loss=loss, score=score)


def areas(run: Run, structures: Sequence[str], train: Frames) -> dict[str, float]:
    """Mean pixels of each structure where a training frame has it; left out: of all others."""
    own = {}
    for name in structures:
        value = run.outputs.index(name)
        own[name] = float(train.counts[value].sum() / train.held[value])
    return own | ({run.leave_out: float(np.mean(list(own.values())))} if run.leave_out else {})


def evaluate(
    run: Run, model: EchoFMInteractive, frames: Frames, which: Sequence[tuple[int, int]],
    size: dict[str, float],
) -> Measured:  # fmt: skip
    """Simulated clicks, and a box, on every structure of the (clip, frame) of `which`.

    `size`: mean areas of the structures that are measured.
    """
    batch = run.recipe.batch
    rows, found = [], []
    places = iter(which)
    for samples, _ in held_out_samples(
        frames, which, model.encoder.config, batch=batch, colour=run.colour
    ):
        names, index, truth = [], [], []
        for i, sample in enumerate(samples):
            clip, frame = next(places)
            for name in size:
                mask = sample.labels == run.outputs.index(name)
                if mask.any():
                    names.append(name)
                    index.append(i)
                    truth.append(mask)
                    rows.append((clip, frame, name))
        if not index:
            continue
        with torch.no_grad(), autocast(model.device, run.recipe.precision):
            seen = interactive.look(model, samples)
            for begin in range(0, len(index), batch):
                part = slice(begin, begin + batch)
                own = seen.rows(torch.tensor(index[part], device=model.device))
                area = np.array([size[name] for name in names[part]])
                found.append(_measure(model, own, np.stack(truth[part]), area))
    if not found:
        raise InputError("masks: no held-out frame has a structure that is trained on")
    return Measured(rows=rows, **{k: np.concatenate([f[k] for f in found]) for k in found[0]})


def _measure(
    model: EchoFMInteractive, seen: Seen, truth: np.ndarray, area: np.ndarray
) -> dict[str, np.ndarray]:
    """The fields of `Measured` but its rows, of structures [n, S, S] of mean areas [n]."""
    side = truth.shape[-1]
    answers = [*interactive.after_clicks(model, seen, truth, CLICKS)]
    answers.append(interactive.from_box(model, seen, truth))
    dice, iou = np.stack([metrics_of.overlap(a.masks, truth) for a in answers], -1)  # [n, 6] each
    first = answers[0].prompts.points[:, 0].numpy()  # [n, 2]
    discs = np.stack([
        metrics_of.disc(*place, pixels, side) for place, pixels in zip(first, area, strict=True)
    ])  # fmt: skip
    ellipses = np.stack([metrics_of.ellipse(b, side) for b in answers[-1].prompts.boxes.numpy()])
    return {
        "dice": dice[:, :CLICKS],
        "box": dice[:, CLICKS],
        "iou": iou,
        "off": np.stack([a.quality for a in answers], 1) - iou,
        "disc": metrics_of.overlap(discs, truth)[0],
        "ellipse": metrics_of.overlap(ellipses, truth)[0],
    }


def write_predictions(run: Run, test: Frames, told: Measured) -> None:
    """A line a structure in a test frame: file, frame, structure, Dice after clicks, from a box."""
    columns = told.columns()
    with predictions(run.folder) as write:
        write(["file", "frame", "structure", *columns])
        for (clip, frame, name), *values in zip(told.rows, *columns.values(), strict=True):
            write([test.clips[clip].name, frame, name, *(f"{value:.4f}" for value in values)])


def draw_figures(
    run: Run, model: EchoFMInteractive, test: Frames, told: Measured, scores: dict, blind: dict
) -> None:
    """Dice against clicks; worst, median and best outline after three, and the one left out."""
    folder = run.folder / "figures"
    names = [f"dice_after_{{}}_{name}" for name in model.config.structures]
    names += [f"zero_shot_dice_after_{{}}_{run.leave_out}"] if run.leave_out else []
    names = [name for name in names if np.isfinite(blind[name.format(1)])]
    interactive_figures.curve(folder / "clicks.png", scores, blind, names, run.simulated)
    cases = []
    whose = np.array([name for _, _, name in told.rows])
    for title, rows in {"": whose != run.leave_out, "zero-shot ": whose == run.leave_out}.items():
        own = np.flatnonzero(rows)
        picked = extremes(told.dice[own, 2])[: 1 if title else 3] if len(own) else []
        for word, number in picked:
            cases.append(_case(run, model, test, told.rows[own[number]], f"{title}{word}"))
    interactive_figures.frames(folder / "frames.png", cases, run.simulated)


def _case(
    run: Run, model: EchoFMInteractive, test: Frames, row: tuple[int, int, str], word: str
) -> interactive_figures.Case:
    """What a picture shows of one structure in one frame."""
    clip, frame, name = row
    which = [(clip, frame)]
    ((samples, _),) = held_out_samples(
        test, which, model.encoder.config, batch=1, colour=run.colour
    )
    truth = samples[0].labels[None] == run.outputs.index(name)
    with torch.no_grad(), autocast(model.device, run.recipe.precision):
        seen = interactive.look(model, samples)
        answers = [*interactive.after_clicks(model, seen, truth, CLICKS)]
    shown = [answers[count - 1] for count in TOLD]
    prompts = answers[-1].prompts
    return interactive_figures.Case(
        caption=f"{name}, {word}", frame=samples[0].clip[samples[0].position], truth=truth[0],
        masks=[a.masks[0] for a in shown], clicks=TOLD,
        dice=[metrics_of.overlap(a.masks, truth)[0][0] for a in shown],
        points=prompts.points[0].numpy(), kinds=prompts.kinds[0].numpy(),
    )  # fmt: skip


def words(model: EchoFMInteractive) -> dict[str, str]:
    """What the head's card says of it."""
    return {
        "title": f"{type(model.encoder).__name__} head: interactive segmentation",
        "answers": "Outlines the structure that it is shown by clicks, a box or a mask, in one "
        f"frame; trained on {', '.join(model.config.structures)}.",
        "loader": "EchoFMInteractive",
        "use": 'session = head.open("clip.dcm", frame=0)\n'
        "mask, quality = session.click(60, 41)  # column, row of session.frame\n"
        "mask, quality = session.click(75, 50, positive=False)",
        "reads": "open",
        "alone": "Without it, `from head.interactive_head import EchoFMInteractive` (torch and\n"
        "safetensors) outlines frames of windows: `model.session(clip, position)`.",
    }
