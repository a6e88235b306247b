"""A DINOv2 backbone's sizes: in transformers' config.json, and in the shapes of its weights.

Imports neither JAX, PyTorch nor transformers.
"""

import math
import re
from collections.abc import Mapping

import numpy as np

from echofm_jax.errors import InputError
from echofm_jax.image_architecture import ImageArchitecture

KINDS = ("dinov2", "dinov2_with_registers")  # transformers' model_type
# The number of heads leaves no trace in the shapes; these are the official ones.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1536: 24}
FIXED = {  # what the backbone computes, and what transformers' config may not say otherwise
    "hidden_act": "gelu",
    "qkv_bias": True,
    "num_channels": 3,
    "layer_norm_eps": 1e-6,
}


def to_config(arch: ImageArchitecture) -> dict:
    """config.json of transformers' Dinov2Model or Dinov2WithRegistersModel.

    Raises InputError for an `mlp_ratio` that transformers does not know.
    """
    if arch.mlp_ratio != int(arch.mlp_ratio):
        raise InputError(
            f"model.mlp_ratio={arch.mlp_ratio}: transformers' Dinov2 knows whole ratios only"
        )
    registers = {"num_register_tokens": arch.registers} if arch.registers else {}
    return {
        "architectures": ["Dinov2WithRegistersModel" if arch.registers else "Dinov2Model"],
        "model_type": KINDS[1] if arch.registers else KINDS[0],
        "hidden_size": arch.width,
        "num_hidden_layers": arch.depth,
        "num_attention_heads": arch.heads,
        "mlp_ratio": int(arch.mlp_ratio),
        "use_swiglu_ffn": arch.ffn == "swiglu",
        "image_size": arch.size,
        "patch_size": arch.patch,
        **registers,
        **FIXED,
        "layerscale_value": arch.layer_scale or 1.0,
        "drop_path_rate": 0.0,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "dtype": "float32",
    }


def from_config(fields: Mapping) -> ImageArchitecture:
    """The architecture of a config.json of transformers. Raises InputError."""
    other = [
        f"{name} {fields[name]!r} instead of {value!r}"
        for name, value in FIXED.items()
        if fields.get(name, value) != value
    ]
    if other:
        raise InputError(f"config.json: a DINOv2 of another kind: {', '.join(other)}")
    registers = 4 if fields["model_type"] == KINDS[1] else 0  # unless the file says otherwise
    try:
        return ImageArchitecture(
            width=fields["hidden_size"],
            depth=fields["num_hidden_layers"],
            heads=fields["num_attention_heads"],
            mlp_ratio=float(fields.get("mlp_ratio", 4)),
            ffn="swiglu" if fields.get("use_swiglu_ffn") else "mlp",
            patch=fields["patch_size"],
            size=one_side(fields["image_size"]),
            registers=fields.get("num_register_tokens", registers),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"config.json: not one of Dinov2: {error} is missing or wrong") from None


def one_side(size: int | list[int]) -> int:
    """The side of square images, which a file may tell twice. Raises ValueError for others."""
    sides = {int(side) for side in np.ravel(size)}
    if len(sides) > 1:
        raise ValueError(f"image_size {size}")
    return sides.pop()


def from_shapes(state: Mapping[str, np.ndarray]) -> ImageArchitecture:
    """The architecture from the shapes of an official state dict. Raises InputError."""
    try:
        width, _, patch, _ = state["patch_embed.proj.weight"].shape
        swiglu = "blocks.0.mlp.w12.weight" in state
        hidden = None if swiglu else len(state["blocks.0.mlp.fc1.weight"])
        arch = ImageArchitecture(
            width=width,
            depth=1 + max(int(key.split(".")[1]) for key in state if re.match(r"blocks\.\d", key)),
            heads=HEADS.get(width, 0),
            mlp_ratio=4.0 if swiglu else hidden / width,
            ffn="swiglu" if swiglu else "mlp",
            patch=patch,
            size=math.isqrt(state["pos_embed"].shape[1] - 1) * patch,
            registers=state["register_tokens"].shape[1] if "register_tokens" in state else 0,
            layer_scale=ImageArchitecture.layer_scale if "blocks.0.ls1.gamma" in state else 0.0,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"incomplete weights: {error} is missing or misshapen") from None
    if not arch.heads:
        raise InputError(
            f"the number of heads of width {width} is unknown: official DINOv2 weights are "
            f"{', '.join(map(str, HEADS))} wide; give a folder of transformers, which tells it"
        )
    return arch
