"""Configs: defaults, presets, overrides, checks, and what follows from the data set's size.

A config file has `get_config(variant)` and starts from `default_config`. Everything that makes no
sense is refused here, before a directory is made or anything is compiled.
"""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from data_pipelines.augment import Augment
from echofm_jax import config_file, remat
from echofm_jax.config_defaults import DEFAULTS, MODELS, OBJECTIVES, default_config, image_config
from echofm_jax.config_file import leaves, pick
from echofm_jax.dinov2_losses import CENTERINGS
from echofm_jax.errors import InputError
from echofm_jax.image_architecture import FFNS
from echofm_jax.masking import KINDS
from echofm_jax.objectives import METHODS, Objective, Time
from echofm_jax.sharding import PRESETS

__all__ = ["MODELS", "OBJECTIVES", "default_config", "image_config", "pick"]
CHOICES = {
    "model.dtype": ("float32", "bfloat16"),
    "model.attention": ("auto", "plain", "splash"),
    "model.remat": remat.KINDS,
    "model.ffn": FFNS,
    "objective.centering": CENTERINGS,
    "objective.prior": ("pixel", "embedding"),
    "objective.masking": KINDS,
    "mesh.preset": tuple(PRESETS),
    "optim.scaling": ("linear", "sqrt"),
    "optim.moments_dtype": ("float32", "bfloat16"),
    "optim.reduce_dtype": ("float32", "bfloat16"),
}


def parse(overrides: Sequence[str], spec: str) -> ConfigDict:
    """`FILE.py[:variant]` and `--config.section.field=value` overrides → a checked config."""
    return override(config_file.read(spec), overrides)


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Apply `--config.section.field=value`, and check the result."""
    config = config_file.override(config, overrides)
    check(config)
    return config


def check(config: ConfigDict) -> None:
    """Refuse what cannot work, naming the fields."""
    flat = leaves(config)
    problems = [
        f"{name}={flat[name]!r} is none of {', '.join(allowed)}"
        for name, allowed in CHOICES.items()
        if name in flat and flat[name] not in allowed
    ]
    positive = ("data.batch_size", "data.windows_per_record", "optim.accumulate",
                "train.log_every", "mesh.slices", "mesh.fsdp", "mesh.tensor",
                "train.checkpoint_every", "train.keep", "train.max_bad_steps",
                "train.evaluate_batches",
                *(f"model.{name}" for name in METHODS[config.method][0].COUNTS))  # fmt: skip
    problems += [f"{name}={flat[name]} must be at least 1" for name in positive if flat[name] < 1]
    above = ("optim.epochs", "optim.weight_decay_growth", "model.mlp_ratio")
    problems += [f"{name}={flat[name]} must be above 0" for name in above if not flat[name] > 0]
    if not problems:
        arch = architecture(config)
        problems += arch.problems() + objective(config).problems(arch, config)
        problems += unused_axes(config)
        if "augment" in config.data:
            problems += [f"data.{told}" for told in Augment(**config.data.augment).problems()]
        if config.data.batch_size % config.optim.accumulate:
            problems.append(
                f"data.batch_size={config.data.batch_size} is not divisible by "
                f"optim.accumulate={config.optim.accumulate}"
            )
    problems += [
        f"{name}={flat[name]} is negative"
        for name in ("train.evaluate_every", "optim.steps")
        if flat[name] < 0
    ]
    if config.train.watchdog and not config.train.watchdog > 1:
        problems.append(f"train.watchdog={config.train.watchdog} is neither 0 nor above 1")
    for name in ("optim.ema", "optim.b2", "data.max_bad_records"):
        if not 0 <= flat[name] < 1:
            problems.append(f"{name}={flat[name]} is not in [0, 1)")
    if problems:
        raise InputError(f"config: {'; '.join(problems)}")


def unused_axes(config: ConfigDict) -> list[str]:
    """Mesh axes that the preset has no use for, and heads that cannot be split."""
    mesh, model = config.mesh, config.model
    used = set(PRESETS[mesh.preset].values())
    problems = [
        f"mesh.{axis}={mesh[axis]} splits nothing with mesh.preset={mesh.preset}: choose "
        f"{' or '.join(name for name, axes in PRESETS.items() if axis in axes.values())}"
        for axis in ("fsdp", "tensor")
        if mesh[axis] > 1 and axis not in used
    ]
    return problems + [
        f"mesh.tensor={mesh.tensor} does not divide model.{name}={model[name]}"
        for name in ("heads", "decoder_heads")
        if model.get(name, 0) % mesh.tensor
    ]


def architecture(config: ConfigDict) -> Any:
    """The model's part of a config."""
    kind, _ = METHODS[config.method]
    return kind(**config.model)


def anywhere(config: ConfigDict) -> Any:
    """The same model on whatever platform this is: training may have chosen a TPU's attention."""
    return dataclasses.replace(architecture(config), attention="auto")


def objective(config: ConfigDict) -> Objective:
    """The objective's part of a config."""
    _, kind = METHODS[config.method]
    ranges = (list, tuple)  # JSON knows lists only
    fields = config.objective.items()
    return kind(**{name: tuple(x) if isinstance(x, ranges) else x for name, x in fields})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a config means for a data set of a given size."""

    steps_per_epoch: float
    steps: int
    warmup_steps: float
    peak_lr: float
    epochs: float  # as its schedules count them, `optim.epochs`, however many steps they take

    def clock(self, step: jax.Array) -> Time:
        """Where training stands after `step` updates."""
        return Time(step / self.steps * self.epochs, self.epochs)

    def __str__(self) -> str:
        epochs = self.steps / self.steps_per_epoch
        return (
            f"{self.steps} steps = {epochs:.4g} epochs of {self.steps_per_epoch:.4g} steps, "
            f"warm-up {self.warmup_steps:.4g} steps, peak learning rate {self.peak_lr:.3g}"
        )


def recipe(config: ConfigDict, train_records: int) -> Recipe:
    """Epochs → steps, and blr → learning rate, for `train_records` records."""
    optim, batch = config.optim, config.data.batch_size
    scale = batch / 256 if optim.scaling == "linear" else math.sqrt(batch / 1024)
    per_epoch = train_records * config.data.windows_per_record / batch
    steps = optim.steps or max(1, round(optim.epochs * per_epoch))
    return Recipe(
        steps_per_epoch=per_epoch,
        steps=steps,
        warmup_steps=steps * optim.warmup_epochs / optim.epochs,
        peak_lr=optim.blr * scale,
        epochs=optim.epochs,
    )


def save(config: ConfigDict, workdir: Path) -> None:
    """Write `config.json`, whole or not at all."""
    target = workdir / "config.json"
    temporary = target.with_suffix(f".tmp{os.getpid()}")
    try:
        temporary.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error


def load(workdir: Path | str) -> ConfigDict:
    """The config of a workdir."""
    path = Path(workdir) / "config.json"
    try:
        known = json.loads(path.read_text())
        config = DEFAULTS[known.get("method", "echofm")]().lock()  # for fields that came later
        config.update(known)
        check(config)
        return config
    except OSError:
        raise InputError(
            f"{workdir} is not a workdir: it has no readable config.json; give the --workdir "
            "of `echofm train` or `echofm import`"
        ) from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{path} is damaged: {error}; restore it or start a new workdir") from None


def refuse_other_model(config: ConfigDict, known: ConfigDict, workdir: Path) -> None:
    """A workdir belongs to one model and one kind of state; all else may change between runs."""
    mine, theirs = leaves(config.model), leaves(known.model)
    runtime = ("dtype", "attention", "remat", "drop_path")  # how it is computed, not what it is
    for model in (mine, theirs):
        if "layer_scale" in model:
            model["layer_scale"] = bool(model["layer_scale"])  # else it is where learning starts
    different = [
        f"model.{name}={mine[name]} (the workdir has {theirs.get(name)})"
        for name in mine
        if name not in runtime and mine[name] != theirs.get(name)
    ]
    kind = {  # what a checkpoint holds
        "method": lambda c: c.method,
        "optim.moments_dtype": lambda c: c.optim.moments_dtype,
        "optim.ema > 0": lambda c: c.optim.ema > 0,
        "optim.weight_decay_growth != 1": lambda c: c.optim.weight_decay_growth != 1,
    }
    if config.method == known.method:
        shapes = METHODS[config.method][1].SHAPES
        kind |= {f"objective.{name}": lambda c, name=name: c.objective[name] for name in shapes}
    different += [
        f"{name} is {of(config)} (the workdir has {of(known)})"
        for name, of in kind.items()
        if of(config) != of(known)
    ]
    if different:
        raise InputError(
            f"workdir {workdir} is of another model: {', '.join(different)}; choose another "
            "--workdir or the same model"
        )
