"""One training of `echofm finetune` on clips: encoder and labels in, a folder of results out.

RUN/head/            the trained head, see head_folder; holds no name
    predictions.csv  an answer for every test clip or examination, by its owner's name: private
    metrics.json     figures, also of the figures' pictures; written last: the run is whole
    figures/         pictures
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data_pipelines.labelled import LabelledClip
from echofm_jax.errors import InputError
from echofm_jax.pytorch import clip_figures, parameters
from echofm_jax.pytorch.clip_training import Part, answers, part, train_clips
from echofm_jax.pytorch.finetune_output import facts, finish, predictions
from echofm_jax.pytorch.fitting import draw, within_memory
from echofm_jax.pytorch.head_echofm import EchoFMHead, HeadConfig
from echofm_jax.pytorch.maps import recording_maps
from echofm_jax.pytorch.peak_memory import peak_memory
from echofm_jax.pytorch.recipe import Recipe
from echofm_jax.pytorch.scores import measure, scores
from echofm_jax.pytorch.trained_echofm import load_encoder
from echofm_jax.torch_checkpoint import sha256

CODE = ("modeling_echofm.py", "trained_echofm.py", "temporal_decoder.py", "head_echofm.py")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What one training depends on."""

    folder: Path
    model: Path  # the exported encoder
    random: bool  # its weights are not used
    task: str  # classes, grades, number, masks, prompts, points
    target: str
    outputs: tuple[str, ...]  # names of classes, structures, landmarks …; of a number its unit
    splits: Mapping[str, Sequence[LabelledClip]]
    seen: Sequence[LabelledClip]  # clips of all runs: a frozen encoder sees each but once
    recipe: Recipe
    seed: int
    colour: bool
    device: str
    cache: Path
    simulated: bool
    leave_out: str = ""  # a structure that is tested alone; empty: none

    @property
    def key(self) -> str:
        """Hash of all that the result depends on."""
        clips = {
            split: [
                (repr(clip.read), clip.targets.get(self.target), clip.patient, clip.study)
                for clip in clips
            ]
            for split, clips in self.splits.items()
        }
        told = (self.weights, self.task, self.target, self.outputs, clips, self.recipe, self.colour)
        told += (self.leave_out,) if self.leave_out else ()
        return hashlib.sha256(repr((*told, self.seed)).encode(errors="surrogateescape")).hexdigest()

    @functools.cached_property
    def weights(self) -> str:
        """What tells the encoder's weights, and of an image model the window that it is shown."""
        described = json.loads((self.model / "config.json").read_text())
        shown = self.model / "echoapex.json"
        apex = json.loads(shown.read_text()) if shown.exists() else {}
        window = "".join(f" {name} {apex[name]}" for name in ("frames", "window_seconds")
                         if name in apex)  # fmt: skip
        if self.random:
            return f"random {self.seed} {described.get('architecture', described)}{window}"
        told = described.get("sha256") or apex.get("sha256") or {}
        try:  # transformers keeps no digest
            digest = told.get("model.safetensors") or sha256(self.model / "model.safetensors")
            return digest + window
        except FileNotFoundError as error:
            raise InputError(f"--model {error.filename}: no such file; export it again") from None


def encoder(run: Run) -> nn.Module:
    """The exported encoder, for the recipe's frames and size, or one of random weights.

    Raises InputError when the folder is not one that `echofm export` or transformers wrote.
    """
    recipe = run.recipe
    try:
        model = load_encoder(run.model, frames=recipe.frames or None, size=recipe.size or None)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"--model {error}") from None
    if run.random:
        torch.manual_seed(draw(run.seed, "random weights"))
        model = type(model)(model.config)
    return model


def run_clips(run: Run) -> dict:
    """Train, answer for the test clips, write everything; returns what metrics.json holds."""
    recipe = run.recipe
    config = HeadConfig(
        task=run.task, target=run.target, outputs=run.outputs, kind=recipe.head,
        hidden=recipe.hidden, dropout=recipe.dropout, study=recipe.study, colour=run.colour,
        **recipe.inserted,
    )  # fmt: skip
    torch.manual_seed(draw(run.seed))
    with within_memory(torch.device(run.device)):
        model = EchoFMHead(encoder(run), config).to(run.device).eval()
    weights = run.weights
    if config.prompts:  # the encoder sees them before they learn anything
        weights += f", {config.prompts} prompts by seed {run.seed}"
    maps = recording_maps(
        model, run.seen, batch=recipe.batch, colour=run.colour, folder=run.cache, weights=weights
    )
    row = {clip.name: i for i, clip in enumerate(run.seen)}
    parts = {
        split: part(clips, targets(run, clips), maps[[row[c.name] for c in clips]], recipe.study)
        for split, clips in run.splits.items()
    }
    with peak_memory(torch.device(run.device)) as peak:
        history = train_clips(
            model, parts["train"], parts["val"], recipe,
            seed=run.seed, colour=run.colour, state_file=run.folder / "state.pt", key=run.key,
        )  # fmt: skip
    test = parts["test"]
    seen = test.maps if recipe.mode == "frozen" else recording_maps(
        model, test.clips, batch=recipe.batch, colour=run.colour
    )  # fmt: skip
    told = answers(model, test, seen)
    truth = test.targets[test.first]
    whose = [test.clips[i].patient for i in test.first]
    figures = scores(run.task, run.outputs, told, truth, whose)
    chance = measure(run.task, run.outputs, blind(run, parts["train"], len(truth)), truth)
    clip_figures.draw(run, told, truth, whose, history)
    write_predictions(run, test, told)
    training = {
        "epochs": history,
        "trained_parameters": trained(model, recipe),
        "peak_memory": dataclasses.asdict(peak),
    }
    metrics = facts(run, run.outputs, parts, training, figures, chance)
    finish(run, model, metrics, figures, CODE, words(run, model))
    return metrics


def targets(run: Run, clips: Sequence[LabelledClip]) -> np.ndarray:
    """What clips are labelled with, [R]: indices of names, or numbers."""
    values = [clip.targets[run.target] for clip in clips]
    if run.task == "number":
        return np.array(values, np.float64)
    return np.array([run.outputs.index(value) for value in values], np.int64)


def blind(run: Run, train: Part, count: int) -> np.ndarray:
    """[count, names] or [count, 1]: what somebody answers who knows the training labels alone."""
    known = train.targets[train.first]
    if run.task == "number":
        return np.full((count, 1), known.mean())
    share = np.bincount(known, minlength=len(run.outputs)) / len(known)
    return np.repeat(share[None], count, 0)


def trained(model: EchoFMHead, recipe: Recipe) -> int:
    """Values that learned: of the head, and of the encoder what the recipe says."""
    head = sum(p.numel() for p in model.head.parameters())
    names = [name for name, _ in model.encoder.named_parameters()]
    used = [n for n in names if not n.startswith(parameters.UNUSED)]
    if recipe.mode == "adapter":
        used = [n for n in used if ".mlp.down." in n or ".mlp.up." in n]
    elif recipe.mode == "prompt":
        used = [n for n in used if n.endswith(".prompts")]
    elif recipe.mode == "lora":
        width = model.encoder.config.width
        return head + 4 * recipe.rank * width * model.encoder.config.depth  # q, v; two factors
    elif recipe.mode == "frozen":
        used = []
    return head + sum(model.encoder.get_parameter(name).numel() for name in used)


def write_predictions(run: Run, test: Part, told: np.ndarray) -> None:
    """A line a test clip: file, truth, answer, probabilities; of examinations patient and study."""
    who = ["patient", "study"] if run.recipe.study else ["file"]
    names = [f"p_{name}" for name in run.outputs] if run.task != "number" else []
    with predictions(run.folder) as write:
        write([*who, run.target, "answer", *names])
        for row, i in zip(told, test.first, strict=True):
            clip = test.clips[i]
            own = [clip.patient, clip.study or clip.name] if run.recipe.study else [clip.name]
            if run.task == "number":
                write([*own, clip.targets[run.target], f"{row[0]:.3f}"])
            else:
                answer = run.outputs[int(row.argmax())]
                shares = [f"{p:.4f}" for p in row]
                write([*own, clip.targets[run.target], answer, *shares])


def words(run: Run, model: EchoFMHead) -> dict[str, str]:
    """What the head's card says of it."""
    target = run.target.replace("_", " ")
    unit = "all clips of an examination" if run.recipe.study else "a clip"
    told = f"its unit is {run.outputs[0]}" if run.task == "number" else ", ".join(run.outputs)
    return {
        "title": f"{type(model.encoder).__name__} head: {target}",
        "answers": f"Tells the {target} of {unit}: {told}.",
        "loader": "EchoFMHead",
        "alone": "Without it, `from head.head_echofm import EchoFMHead` (torch and safetensors)\n"
        "answers for windows: `model.head.answers(model(clips))`.",
    }
