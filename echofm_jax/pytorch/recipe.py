"""How a head is trained; the defaults of each task need no tuning. See configs/finetune/.

The default trains nothing but a linear head, in closed form, its strength chosen over patients.
"""

import dataclasses

from ml_collections import ConfigDict

from echofm_jax.errors import InputError

MODES = ("frozen", "lora", "adapter", "prompt", "full")
PRECISIONS = ("float32", "bfloat16", "float16")
CHOICES = {
    "mode": MODES,
    "head": ("linear", "mlp", "attentive", "temporal"),
    "precision": PRECISIONS,
    "class_weights": ("balanced", "none"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Fields of a config of configs/finetune/, each to be overridden with --config.FIELD=VALUE."""

    mode: str = "frozen"  # what of the encoder learns: nothing, low ranks, adapters, prompts, all
    head: str = "linear"
    study: bool = False  # one answer for an examination's clips, by attention over them
    hidden: int = 256  # width of mlp, attentive and temporal heads
    dropout: float = 0.1
    rank: int = 8  # of LoRA's updates to q and v
    adapter: int = 64  # width of adapters
    prompts: int = 10  # learned tokens in each block
    frames: int = 0  # of a window; 0: the model's
    size: int = 0  # pixels of a side; 0: the model's
    epochs: int = 30
    patience: int = 10  # epochs without a better validation score; 0: never stop early
    batch: int = 8  # clips (examinations, where one is answered for)
    clips_per_study: int = 4  # drawn of each examination in training; all are read to answer
    lr: float = 5e-4
    warmup: float = 0.1  # share of the updates
    weight_decay: float = 0.05
    layer_decay: float = 0.75  # of the rate, a block further from the head
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    class_weights: str = "balanced"  # rare classes count as much as common ones, or `none`
    precision: str = "float32"

    @property
    def inserted(self) -> dict[str, int]:
        """`adapter` and `prompts` of a head's config: what is put into the encoder's blocks."""
        return {
            "adapter": self.adapter if self.mode == "adapter" else 0,
            "prompts": self.prompts if self.mode == "prompt" else 0,
        }


# A new decoder learns from nothing, on few clips: fast, and to the end.
SEGMENTATION = {"epochs": 10, "patience": 0, "lr": 2e-3}
OWN = {
    "segmentation": SEGMENTATION,
    "interactive_segmentation": SEGMENTATION | {"lr": 1e-3},
    "hypertrophy": SEGMENTATION,
}


def of_mode(config: ConfigDict, mode: str, task: str, own_rate: bool) -> ConfigDict:
    """A recipe in another mode, at that mode's rate: one rate for all would compare rates.

    MAE's for a whole encoder, the default for what is put into one, or for a head alone.
    `own_rate`: the user gave one, for all. A recipe that has the mode already keeps its own, and so
    do tasks with a decoder from nothing, whose rate is the decoder's.
    """
    other = default_recipe(**config)
    other.mode = mode
    if mode != config.mode and task not in OWN and not own_rate:
        other.lr = 1e-3 * config.batch / 256 if mode == "full" else Recipe.lr
    return other


def default_recipe(task: str = "", **fields: object) -> ConfigDict:
    """What `get_config` of a file of configs/finetune/ starts from; task: of `echofm finetune`."""
    return ConfigDict(dataclasses.asdict(Recipe(**OWN.get(task, {}) | fields)))


def checked(config: ConfigDict) -> Recipe:
    """The recipe of a config; raises InputError naming every field that cannot be."""
    fields = {field.name for field in dataclasses.fields(Recipe)}
    if unknown := sorted(set(config) - fields):
        raise InputError(
            f"recipe: it has no {', '.join(unknown)}: give a file of configs/finetune/"
        )
    recipe = Recipe(**config)
    problems = [
        f"{name}={getattr(recipe, name)!r} is none of {', '.join(allowed)}"
        for name, allowed in CHOICES.items()
        if getattr(recipe, name) not in allowed
    ]
    least = {"epochs": 1, "batch": 1, "hidden": 4, "rank": 1, "adapter": 1, "prompts": 1,
             "clips_per_study": 1,
             "patience": 0, "frames": 0, "size": 0, "warmup": 0, "weight_decay": 0,
             "dropout": 0, "label_smoothing": 0}  # fmt: skip
    problems += [
        f"{name}={getattr(recipe, name)} must be at least {low}"
        for name, low in least.items()
        if not getattr(recipe, name) >= low
    ]
    for name in ("lr", "clip_norm", "layer_decay"):
        if not getattr(recipe, name) > 0:
            problems.append(f"{name}={getattr(recipe, name)} must be above 0")
    for name in ("warmup", "dropout", "label_smoothing"):
        if not getattr(recipe, name) < 1:
            problems.append(f"{name}={getattr(recipe, name)} must be below 1")
    if recipe.head in ("attentive", "temporal") and recipe.hidden % 4:
        problems.append(f"hidden={recipe.hidden} must be a multiple of 4, its attention heads")
    if problems:
        raise InputError(f"recipe: {'; '.join(problems)}")
    return recipe
