"""Files of EchoFM weights saved by PyTorch: reading them, and the arguments of their model.

A `.pth` of the public code or of `echofm export`, an exported folder, or a bare state dict.
"""

import argparse
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from echofm_jax.architecture import Architecture
from echofm_jax.dinov2_config import KINDS as DINOV2_KINDS
from echofm_jax.errors import InputError
from echofm_jax.torch_weights import MODEL_ARGS, fill_projector_norm, from_torch, to_arguments

# The number of heads leaves no trace in the shapes; these are the usual ones.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
DECODER_HEADS = 16
CONTAINERS = (
    "teacher",
    "model",
    "model_state",
    "state_dict",
)  # of a state dict
# What the keys say about a file that holds another model, most telling first.
FOREIGN = (
    (lambda state: any(".attn.qkv." in key for key in state),
     "q, k and v are fused, as in timm, VideoMAE and DINO"),
    (lambda state: getattr(state.get("patch_embed.proj.weight"), "ndim", 0) != 5,
     "it does not embed tubelets of a video"),
    (lambda state: "pos_embed" in state,
     "its position embedding is joint, made with sep_pos_embed=False"),
    (lambda state: "decoder_embed.weight" not in state, "it is an encoder without its decoder"),
    (lambda state: "decoder_prj_cls_token" not in state,
     "it is a masked autoencoder without EchoFM's projector"),
)  # fmt: skip


class TorchCheckpoint(NamedTuple):
    """Weights as the public code names them, and the arguments their model was made with."""

    state: dict[str, np.ndarray]
    arguments: dict  # its names; only those that the file holds. Of Dinov2: transformers' config
    window_seconds: float = 0.0  # only exported folders tell


def read_official(path: str | Path) -> tuple[dict, Architecture, list[str]]:
    """Weights saved by PyTorch -> (JAX parameters, architecture, what was missing and assumed).

    `path` is a `.pth`, a `.safetensors` or an exported folder. Raises InputError in one line when
    it is damaged or holds another model.
    """
    return convert(read_checkpoint(path), path)


def convert(checkpoint: TorchCheckpoint, path: str | Path) -> tuple[dict, Architecture, list[str]]:
    """What `read_official` returns, of a checkpoint that was read from `path`."""
    state, filled = fill_projector_norm(checkpoint.state)
    try:
        arch = infer_architecture(state, checkpoint.arguments)
        params = from_torch(state, arch)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    missing = [f"{key} (that of the encoder taken)" for key in filled]
    missing += [
        f"{name} ({getattr(arch, MODEL_ARGS[name])} assumed)"
        for name in ("num_heads", "decoder_num_heads")
        if not checkpoint.arguments.get(name)
    ]
    return params, arch, missing


def read_checkpoint(path: str | Path) -> TorchCheckpoint:
    """Read a file; a pickle is read as data and never executed."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; give a .pth, a .safetensors or an exported folder")
    if path.is_dir():
        path = path / "model.safetensors"
        if not path.is_file():
            raise InputError(f"{path.parent}: no model.safetensors in it; give an exported folder")
    _refuse_changed(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    saved = _read_pickle(path)
    state = saved
    if isinstance(saved, Mapping):
        state = next((saved[key] for key in CONTAINERS if key in saved), saved)
    if not isinstance(state, Mapping) or not any(hasattr(x, "numpy") for x in state.values()):
        raise InputError(f"{path}: holds no state dict; give a checkpoint of EchoFM")
    arguments: dict = {}
    for given in (saved.get("args"), saved.get("model_args")):
        given = vars(given) if isinstance(given, argparse.Namespace) else given
        arguments |= given if isinstance(given, dict) else {}
    return TorchCheckpoint(
        {
            str(key).removeprefix("module.").removeprefix("_orig_mod."): x.float().numpy()
            for key, x in state.items()
            if hasattr(x, "numpy")
        },
        arguments,
    )


def infer_architecture(state: Mapping[str, np.ndarray], arguments: Mapping) -> Architecture:
    """The architecture from the shapes of a state dict; the numbers of heads from `arguments`."""
    for matches, what in FOREIGN:
        if matches(state):
            raise InputError(f"not weights of EchoFM: {what}; give a checkpoint of EchoFM")
    try:
        width, _, tubelet, patch, _ = state["patch_embed.proj.weight"].shape
        steps = state["pos_embed_temporal"].shape[1]
        ratio = len(state["blocks.0.mlp.fc1.weight"]) / width
        decoder_width = len(state["decoder_embed.weight"])
        decoder_ratio = len(state["decoder_blocks.0.mlp.fc1.weight"]) / decoder_width
        arch = Architecture(
            size=math.isqrt(state["pos_embed_spatial"].shape[1]) * patch,
            patch=patch,
            frames=steps * tubelet,
            tubelet=tubelet,
            width=width,
            depth=_count_blocks(state, "blocks"),
            heads=arguments.get("num_heads") or HEADS.get(width, 0),
            mlp_ratio=ratio,
            decoder_mlp_ratio=0.0 if decoder_ratio == ratio else decoder_ratio,
            decoder_width=decoder_width,
            decoder_depth=_count_blocks(state, "decoder_blocks"),
            decoder_heads=arguments.get("decoder_num_heads") or DECODER_HEADS,
            pred_frames=len(state["decoder_pred.weight"]) // (patch**2 * 3) * steps,
        )
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f"incomplete weights: {error} is missing or misshapen") from None
    if not arch.heads:
        raise InputError(
            f"the number of heads of width {width} is unknown; save it in the file, next to "
            "'model', as 'model_args': {'num_heads': ...}"
        )
    if problems := arch.problems():
        raise InputError(f"impossible architecture: {problems[0]}")
    return arch


def _count_blocks(state: Mapping[str, np.ndarray], name: str) -> int:
    return 1 + max(
        (int(key.split(".")[1]) for key in state if re.match(rf"{name}\.\d+\.", key)), default=-1
    )


def _read_pickle(path: Path) -> object:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path}: reading it needs PyTorch; run: pip install 'echofm_jax[torch]'"
        ) from None
    try:
        # Checkpoints of the public code hold their command line, an argparse.Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        if code := re.search(r"(?i)unsupported global:? (?:global )?([\w.]+)", str(error)):
            raise InputError(
                f"{path}: holds code ({code[1]}), which is never run; save the state dict alone"
            ) from None
        raise InputError(
            f"{path}: truncated, damaged or not a checkpoint of PyTorch; copy it again"
        ) from None


def _read_safetensors(path: Path) -> TorchCheckpoint:
    import ml_dtypes  # noqa: F401, teaches numpy what bfloat16 is
    import safetensors
    from safetensors.numpy import load_file

    try:
        # transformers saves our model under the name of the one that wraps it: hf_echofm.py.
        state = {key.removeprefix("echofm."): value for key, value in load_file(path).items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path}: truncated or damaged ({error}); copy it again") from None
    config = path.with_name("config.json")
    if not config.is_file():
        return TorchCheckpoint(state, {})
    try:
        fields = json.loads(config.read_text())
        if fields.get("model_type") in DINOV2_KINDS:
            return TorchCheckpoint(state, fields)
        arguments = to_arguments(fields["architecture"], fields["objective"])
        window_seconds = fields["preprocessing"]["window_seconds"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{config}: not a config of EchoFM ({error})") from None
    return TorchCheckpoint(state, arguments, window_seconds)


def _refuse_changed(path: Path) -> None:
    """A file of an exported folder must be the one that the folder knows."""
    for told in ("config.json", "echoapex.json"):
        try:
            expected = json.loads(path.with_name(told).read_text())["sha256"][path.name]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not of an export, or of an older one
        if expected != sha256(path):
            raise InputError(
                f"{path}: truncated, damaged or changed since its export (its SHA-256 is not that "
                f"in {told}); copy the folder again"
            )


def sha256(file: Path) -> str:
    """The digest of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
