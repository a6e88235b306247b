"""`config.json` of an exported folder: what the model is, where it comes from, its files."""

from pathlib import Path
from typing import TYPE_CHECKING

from echofm_jax import __version__
from echofm_jax.errors import InputError
from echofm_jax.torch_checkpoint import sha256

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# What transformers' Auto classes look for: pytorch/hf_echofm.py.
FOR_TRANSFORMERS = {
    "model_type": "echofm",
    "architectures": ["EchoFMModel"],
    "auto_map": {
        "AutoConfig": "hf_echofm.EchoFMHFConfig",
        "AutoModel": "hf_echofm.EchoFMModel",
    },
}
WEIGHTS = (".safetensors", ".pth", ".pt2", ".onnx", ".data")


def provenance(settings: "ConfigDict", step: int, origin: dict) -> dict:
    """What weights were made by; nothing in it tells where or on whose data."""
    return {
        "software": f"echofm_jax {__version__}",
        "step": step,
        f"{'images' if settings.method == 'dinov2' else 'clips'}_seen": step
        * settings.data.batch_size,
        "batch_size": settings.data.batch_size,
        "optimizer": settings.optim.to_dict(),
        "seed": settings.seed,
        "started_from": origin or "random parameters",
        "data": kind_of_data(settings.data.dir),
    }


def describe(settings: "ConfigDict", known: dict) -> dict:
    """`config.json` of an export of EchoFM; `known` is its `provenance`."""
    runtime = ("dtype", "attention", "remat")  # how it was computed, not what it is
    return {
        **FOR_TRANSFORMERS,
        "architecture": {k: v for k, v in settings.model.items() if k not in runtime},
        "preprocessing": {
            "pixels": "uint8, grey or RGB, divided by 255; everything outside the sector black",
            "frames": settings.model.frames,
            "size": settings.model.size,
            "window_seconds": settings.data.window_seconds,
        },
        "objective": settings.objective.to_dict(),
        "provenance": known,
    }


def processor(description: dict) -> dict:
    """`preprocessor_config.json`, from which transformers makes the folder's video processor."""
    preprocessing = description["preprocessing"]
    return {
        "auto_map": dict.fromkeys(
            ("AutoImageProcessor", "AutoVideoProcessor"), "hf_echofm.EchoFMVideoProcessor"
        ),
        **{name: preprocessing[name] for name in ("frames", "size", "window_seconds")},
    }


def kind_of_data(data_dir: str) -> str:
    """`simulated clips` or `recorded clips`; `unknown` where the data are out of reach."""
    from data_pipelines import shards

    try:
        simulated = shards.dataset_info(data_dir).simulated
    except InputError:
        return "unknown"
    return "simulated clips" if simulated else "recorded clips"


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of weights and every program: what is loaded is compared with it."""
    files = sorted(file for file in folder.iterdir() if file.suffix in WEIGHTS)
    return {file.name: sha256(file) for file in files}
