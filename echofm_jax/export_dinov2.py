"""`echofm export` of an image backbone: a folder in transformers' own Dinov2 format.

`AutoModel.from_pretrained(DIR)` loads it, no code in it is run. It holds the teacher's backbone,
DINOv2's product. Verified as EchoFM's exports are: by running what was written beside JAX.
"""

import dataclasses
import functools
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from echofm_jax.dinov2_config import to_config
from echofm_jax.dinov2_weights import to_state
from echofm_jax.errors import InputError
from echofm_jax.export_check import refuse_beyond
from echofm_jax.export_config import digests
from echofm_jax.export_program import IMAGES, run_program, write_image_programs
from echofm_jax.image_architecture import IMAGENET_MEAN, IMAGENET_STD, ImageArchitecture
from echofm_jax.image_card import image_card
from echofm_jax.image_model import bind, normalised
from echofm_jax.pytorch import EchoApex
from echofm_jax.torch_parity import held_out_batch, relative, synthetic_clip

if TYPE_CHECKING:
    from ml_collections import ConfigDict

FORMAT = 1  # of echoapex.json
FRAMES, WINDOW_SECONDS = 8, 1.0  # what heads read of a recording where nothing else is said


def write_folder(
    folder: Path,
    params: dict,
    settings: "ConfigDict",
    provenance: dict,
    evaluation: dict,
    formats: tuple[str, ...],
    tolerance: float,
) -> dict:
    """Write every file of an export to `folder`, check them, and return the report."""
    from echofm_jax.config import anywhere

    arch, backbone = anywhere(settings), params["backbone"]
    write_weights(folder, backbone, arch)
    write_json(folder / "config.json", to_config(arch))
    write_json(folder / "preprocessor_config.json", processor(arch))
    about = {
        "format": FORMAT,
        "frames": FRAMES,
        "window_seconds": WINDOW_SECONDS,
        "trained": provenance | {"objective": settings.objective.to_dict()},
    }
    write_json(folder / "echoapex.json", about)  # without digests, for the programs' own reader
    programs = write_image_programs(folder, formats)
    about["sha256"] = digests(folder)
    write_json(folder / "echoapex.json", about)

    images = {"synthetic": synthetic_clip(EchoApex.from_pretrained(folder, frames=1).config)[0]}
    if (batch := held_out_batch(settings)) is not None:
        images["held_out"] = batch["global"][0, :1]
    found, also = check(folder, backbone, arch, images, programs, tolerance)
    (folder / "README.md").write_text(image_card(arch, about, evaluation, found, also))
    return {
        "step": provenance["step"],
        "tolerance": tolerance,
        "differences": found,
        "also_checked": also,
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }


def write_weights(folder: Path, backbone: dict, arch: ImageArchitecture) -> None:
    """`model.safetensors` with transformers' names; where there is no LayerScale, ones."""
    if not arch.layer_scale:
        ones = np.ones((arch.depth, arch.width), np.float32)
        blocks = backbone["blocks"] | {"scale1": ones, "scale2": ones}
        backbone, arch = backbone | {"blocks": blocks}, dataclasses.replace(arch, layer_scale=1.0)
    state = to_state(backbone, arch, "transformers")
    if not all(np.isfinite(value).all() for value in state.values()):
        raise InputError("the checkpoint holds values that are not finite; give an earlier --step")
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    file = folder / "model.safetensors"
    try:
        save_file(tensors, file, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:  # how each reports a full disk
        size = sum(value.nbytes for value in state.values())
        raise InputError(
            f"{folder.parent}: cannot write weights of {size / 1e6:.0f} MB; free some space"
        ) from error
    file.chmod(folder.stat().st_mode & 0o666)  # safetensors lets only the owner read


def processor(arch: ImageArchitecture) -> dict:
    """preprocessor_config.json: whole images to the size of training, in ImageNet's units."""
    side = {"height": arch.size, "width": arch.size}
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": side,
        "resample": 3,  # bicubic
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }


def check(
    folder: Path,
    backbone: dict,
    arch: ImageArchitecture,
    images: dict[str, np.ndarray],
    programs: list[Path],
    tolerance: float,
) -> tuple[dict, dict]:
    """→ (image → output → relative difference to JAX of PyTorch, the same by program).

    `images`: name → [1, S, S(, 3)] uint8. transformers is one of the programs where it is
    installed. Raises RuntimeError where anything differs by more than `tolerance`.
    """
    truth = {name: jax_outputs(backbone, arch, image) for name, image in images.items()}
    model = EchoApex.from_pretrained(folder, frames=1).eval()

    def of_model(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = model.encode(model.preprocess(image))
        return {"cls": found.frames[:, 0].numpy(), "patches": found.tokens.numpy()}

    found = {name: relative(of_model(image), truth[name]) for name, image in images.items()}
    refuse_beyond(tolerance, "PyTorch", found)
    readers = {file.name: functools.partial(of_program, file) for file in programs}
    if importlib.util.find_spec("transformers"):
        readers["transformers"] = functools.partial(of_transformers, folder)
    also: dict = {}
    for reader, run in readers.items():
        also[reader] = {}
        for name, image in images.items():
            clip = model.preprocess(image)[:, :, 0].numpy()  # [1, 3, S, S]
            batch = np.concatenate([clip, 1 - clip, clip])
            differences = [
                relative({output: x[row : row + 1] for output, x in outputs.items()}, truth[name])
                for given, rows in ((clip, (0,)), (batch, (0, 2)))
                for outputs in (run(given),)
                for row in rows
            ]
            also[reader][name] = {
                output: float(np.max([x[output] for x in differences]))  # NaN, if any is
                for output in differences[0]
            }
        refuse_beyond(tolerance, reader, also[reader])
    return found, also


def of_program(file: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """A program's outputs of images [B, 3, S, S] in [0, 1]."""
    return run_program(file, {IMAGES: images})


def of_transformers(folder: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """The same of what transformers reads from a folder."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    registers = getattr(model.config, "num_register_tokens", 0)
    mean, std = (np.float32(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        tokens = model(torch.from_numpy((images - mean) / std)).last_hidden_state.numpy()
    return {"cls": tokens[:, 0], "patches": tokens[:, 1 + registers :]}


def jax_outputs(backbone: dict, arch: ImageArchitecture, image: np.ndarray) -> dict:
    """What JAX makes of an image [1, S, S(, 3)] in float32: `cls` [1, D], `patches` [1, N, D]."""
    exact = dataclasses.replace(arch, dtype="float32", remat="none")
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.default_device(cpu), jax.default_matmul_precision("highest"):
        run = jax.jit(lambda params, image: bind(exact, params)(normalised(image)))
        cls, patches = jax.device_get(run(backbone, image))
    return {"cls": cls, "patches": patches}


def write_json(file: Path, content: dict) -> None:
    """Readable."""
    file.write_text(json.dumps(content, indent=2) + "\n")
