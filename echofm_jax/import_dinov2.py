"""`echofm import` of DINOv2 weights, so that pre-training may start from natural images.

Reads the official code's state dicts, those of its training's teachers, and folders of
transformers' Dinov2 models, `echofm export`'s among them. Heads begin anew.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from echofm_jax.dinov2_config import from_config, from_shapes
from echofm_jax.dinov2_weights import from_state
from echofm_jax.errors import InputError
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.image_positions import resized_positions
from echofm_jax.torch_checkpoint import TorchCheckpoint

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# Under which names other modules save a backbone; a teacher is the better one.
PREFIXES = (
    "teacher.backbone.", "backbone.", "student.backbone.", "dinov2.", "dinov2_with_registers.",
)  # fmt: skip
CHUNK = re.compile(r"^blocks\.\d+\.(?=\d+\.)")  # FSDP's groups of blocks, numbered through
SET_BY_WEIGHTS = ("width", "depth", "heads", "mlp_ratio", "ffn", "patch", "registers")


def is_dinov2(checkpoint: TorchCheckpoint) -> bool:
    """Whether these are an image backbone's weights in one of the two layouts."""
    state = backbone_state(checkpoint.state)
    if "embeddings.cls_token" in state:
        return "embeddings.position_embeddings" in state
    embedding = state.get("patch_embed.proj.weight")
    own = {"mask_token", "blocks.0.ls1.gamma"} & state.keys()  # what other image models lack
    return getattr(embedding, "ndim", 0) == 4 and bool(own) and "decoder_embed.weight" not in state


def backbone_state(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The backbone's part of a state dict, under the names that it has alone."""
    for prefix in PREFIXES:
        inside = {k.removeprefix(prefix): x for k, x in state.items() if k.startswith(prefix)}
        if inside:
            state = inside
            break
    return {CHUNK.sub("blocks.", key): x for key, x in state.items()}


def read_backbone(
    checkpoint: TorchCheckpoint, path: Path
) -> tuple[dict, ImageArchitecture, list[str]]:
    """→ (parameters, architecture, what was missing and assumed). Raises InputError in one line."""
    state, missing = backbone_state(checkpoint.state), []
    theirs = "embeddings.cls_token" in state
    try:
        if theirs and not checkpoint.arguments:
            raise InputError("transformers' weights need the config.json that lay beside them")
        arch = from_config(checkpoint.arguments) if theirs else from_shapes(state)
        if problems := arch.problems():
            raise InputError(f"impossible architecture: {problems[0]}")
        if not theirs:
            missing.append(f"num_heads ({arch.heads} assumed)")
        mask_token = "embeddings.mask_token" if theirs else "mask_token"
        if mask_token not in state:
            state[mask_token] = np.zeros((1, arch.width), np.float32)
            missing.append(f"{mask_token} (zeros taken)")
        layout = "transformers" if theirs else "official"
        return from_state(state, arch, layout), arch, missing
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def imported(
    checkpoint: TorchCheckpoint, path: Path, config_spec: str | None
) -> tuple[dict, "ConfigDict", list[str]]:
    """→ (student's parameters, the config to train with, what was missing and assumed).

    Position embeddings are interpolated to the config's size: of a given config, else the recipe's
    or the weights' own, whichever is smaller. Raises InputError when the config is of another
    model.
    """
    import jax

    from echofm_jax import config as configs

    backbone, arch, missing = read_backbone(checkpoint, path)
    if config_spec is None:
        config = configs.image_config("vit_l")
        size = min(arch.size, config.model.size)
        fields = {name: getattr(arch, name) for name in (*SET_BY_WEIGHTS, "layer_scale")}
        config.model.update(fields, size=size)
        local = config.objective.local_size // arch.patch * arch.patch
        config.objective.local_size = max(arch.patch, min(local, size))
        configs.check(config)
    else:
        config = configs.parse([], config_spec)
        refuse_other_backbone(config, arch, config_spec, path)
    wanted = configs.architecture(config)
    if wanted.size != arch.size:
        learned = resized_positions(backbone["pos_spatial"], arch.grid, wanted.grid)
        backbone = backbone | {"pos_spatial": learned}
        missing.append(
            f"positions of {wanted.grid}x{wanted.grid} patches (made from {arch.grid}x{arch.grid})"
        )
    key = jax.random.key(config.seed)
    fresh = jax.jit(configs.objective(config).init_params, static_argnums=0)(wanted, key)
    heads = [name for name in fresh if name != "backbone"]
    return fresh | {"backbone": backbone}, config, [*missing, f"{' and '.join(heads)} (fresh)"]


def refuse_other_backbone(
    config: "ConfigDict", arch: ImageArchitecture, config_spec: str, path: Path
) -> None:
    """A given config must describe the backbone that the file holds, but for its size."""
    if config.method != "dinov2":
        raise InputError(f"{config_spec} trains {config.method}, and {path} holds DINOv2")
    different = [
        f"model.{name} is {config.model[name]} there and {value} in the weights"
        for name, value in dataclasses.asdict(arch).items()
        if name in SET_BY_WEIGHTS and config.model[name] != value
    ]
    if bool(config.model.layer_scale) != bool(arch.layer_scale):
        without = "weights" if config.model.layer_scale else "config"
        different.append(f"model.layer_scale: the {without} have none")
    if different:
        raise InputError(f"{config_spec} is not for {path}: {'; '.join(different)}")
