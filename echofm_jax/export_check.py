"""Everything that an export wrote, loaded again and run beside JAX."""

from pathlib import Path

import numpy as np
import torch

from echofm_jax.architecture import Architecture
from echofm_jax.errors import InputError
from echofm_jax.export_program import CLIPS, VISIBLE, run_program
from echofm_jax.pytorch import EchoFM
from echofm_jax.torch_parity import differences, jax_outputs, relative

# Relative difference above which a half-precision copy is refused, computed with in its dtype.
HALF = {"bfloat16": 0.1, "float16": 0.02}


def check(
    folder: Path,
    params: dict,
    arch: Architecture,
    clips: dict[str, np.ndarray],
    programs: list[Path],
    dtypes: tuple[str, ...],
    tolerance: float,
) -> tuple[dict, dict]:
    """-> (clip -> output -> relative difference, the same of each copy and program by file name).

    Raises RuntimeError when weights or programs differ from JAX by more than `tolerance`, and
    InputError when the model does not bear half precision.
    """
    truth = {name: jax_outputs(params, arch, clip) for name, clip in clips.items()}
    model = EchoFM.from_pretrained(folder).eval()

    def of_model(model: EchoFM) -> dict:
        return {name: differences(truth[name], model, clip) for name, clip in clips.items()}

    found, also = of_model(model), {}
    refuse_beyond(tolerance, "PyTorch", found)
    for file in programs:
        also[file.name] = {
            name: of_program(file, model.preprocess(clip).numpy(), truth[name])
            for name, clip in clips.items()
        }
        refuse_beyond(tolerance, file.name, also[file.name])
    for dtype in dtypes:
        copy = EchoFM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        of_copy = also[f"model.{dtype}.safetensors"] = of_model(copy)
        if not within(HALF[dtype], of_copy):
            raise InputError(
                f"--dtype {dtype}: outputs differ by more than {HALF[dtype]:.0%}: {of_copy}; this "
                "model does not bear it, leave it out"
            )
    return found, also


def of_program(file: Path, clip: np.ndarray, truth: dict[str, np.ndarray]) -> dict[str, float]:
    """The worst differences of a program in a batch of one, and first and last in one of three."""
    worst: dict[str, float] = {}
    for clips, rows in ((clip, [0]), (np.concatenate([clip, 1 - clip, clip]), [0, 2])):
        inputs = {CLIPS: clips}
        if file.stem == "reconstruction":
            inputs[VISIBLE] = np.repeat(truth["visible"], len(clips), 0).astype(np.int64)
        outputs = run_program(file, inputs)
        for row in rows:
            found = relative({name: x[row : row + 1] for name, x in outputs.items()}, truth)
            worst = {name: float(np.maximum(worst.get(name, 0), found[name])) for name in found}
    return worst


def within(tolerance: float, found: dict[str, dict[str, float]]) -> bool:
    """Whether no difference is larger, and none is NaN."""
    return all(x <= tolerance for figures in found.values() for x in figures.values())


def refuse_beyond(tolerance: float, what: str, found: dict[str, dict[str, float]]) -> None:
    """Raises RuntimeError unless `within`."""
    if not within(tolerance, found):
        raise RuntimeError(f"JAX and {what} differ by more than {tolerance}: {found}")
