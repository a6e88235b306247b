"""`echofm export`: a checkpoint becomes PyTorch weights, verified by running both.

The folder holds `echofm.pth` for the public PyTorch code, and for everybody else
`model.safetensors`, `config.json`, `modeling_echofm.py` and a model card: no JAX needed.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from echofm_jax import __version__, cli
from echofm_jax.atomic import new_folder
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError
from echofm_jax.import_weights import ORIGIN

if TYPE_CHECKING:
    from ml_collections import ConfigDict

TOLERANCE = 1e-4  # relative difference between JAX and PyTorch above which nothing is exported
EXAMPLE = """example:
  echofm export --workdir runs/smoke --output exported
  python -c "from exported.modeling_echofm import EchoFM; print(EchoFM.from_pretrained('exported'))"
"""


def main(argv: list[str]) -> int:
    """Parse, export, report."""
    parser = argparse.ArgumentParser(
        prog="echofm export",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--workdir", type=local_path, required=True, help="of `echofm train` or import"
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that does not exist")
    parser.add_argument("--step", type=int, help="which checkpoint; default: the newest")
    parser.add_argument("--json", action="store_true", help="figures as JSON on the last line")
    args = parser.parse_args(argv)
    report = export(args.workdir, args.output, args.step)
    for clip, by_output in report["differences"].items():
        figures = ", ".join(f"{name} {value:.1e}" for name, value in by_output.items())
        print(f"JAX and PyTorch on the {clip.replace('_', '-')} clip differ by: {figures}")
    print(f"exported step {report['step']} to {args.output}:")
    for name, size in report["files"].items():
        print(f"  {name:20s} {size / 1e6:9.2f} MB")
    if args.json:
        print(json.dumps(report))
    return 0


def export(workdir: Path, output: Path, step: int | None = None) -> dict:
    """Write `output` and return {step, differences, files}; what fails leaves nothing there.

    Raises InputError when `output` exists or cannot be made, the workdir is none, or PyTorch is
    absent, and RuntimeError when JAX and PyTorch disagree.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise InputError(
            "PyTorch is needed and not installed; run: pip install 'echofm_jax[torch]'"
        ) from None
    from echofm_jax import checkpoint, config

    settings = config.load(workdir)
    with new_folder(output) as building:
        params, step = checkpoint.load_params(workdir, step)
        description = describe(settings, step, read_origin(workdir))
        return write_folder(building, params, settings, description, read_evaluation(workdir, step))


def write_folder(
    folder: Path,
    params: dict,
    settings: "ConfigDict",
    description: dict,
    evaluation: dict,
) -> dict:
    """Write every file of an export to `folder`, check them, and return the report."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from echofm_jax.config import architecture
    from echofm_jax.model_card import model_card
    from echofm_jax.pytorch import EchoFM, modeling_echofm
    from echofm_jax.torch_parity import differences, held_out_clip, synthetic_clip
    from echofm_jax.torch_weights import to_arguments, to_torch

    arch = architecture(settings)
    state = {key: torch.from_numpy(value) for key, value in to_torch(params, arch).items()}
    if not all(value.isfinite().all() for value in state.values()):
        raise InputError("the checkpoint holds values that are not finite; give an earlier --step")
    arguments = to_arguments(settings.model, settings.objective)
    try:
        torch.save({"model": state, "model_args": arguments}, folder / "echofm.pth")
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    except (OSError, RuntimeError, SafetensorError) as error:  # how each reports a full disk
        size = sum(value.nbytes for value in state.values())
        raise InputError(
            f"{folder.parent}: cannot write weights of 2 x {size / 1e6:.0f} MB; free some space"
        ) from error
    # safetensors lets only the owner read what it writes; an export is to be shared.
    (folder / "model.safetensors").chmod((folder / "echofm.pth").stat().st_mode)
    shutil.copyfile(modeling_echofm.__file__, folder / "modeling_echofm.py")
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")

    model = EchoFM.from_pretrained(folder).eval()
    clips = {"synthetic": synthetic_clip(arch), "held_out": held_out_clip(settings)}
    found = {
        name: differences(params, arch, model, clip)
        for name, clip in clips.items()
        if clip is not None
    }
    if not all(x <= TOLERANCE for figures in found.values() for x in figures.values()):
        raise RuntimeError(f"JAX and PyTorch differ by more than {TOLERANCE}: {found}")
    (folder / "README.md").write_text(model_card(description, evaluation, found))
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    step = description["provenance"]["step"]
    return {"step": step, "tolerance": TOLERANCE, "differences": found, "files": files}


def describe(settings: "ConfigDict", step: int, origin: dict) -> dict:
    """`config.json` of an export; nothing in it tells where or on whose data it was trained."""
    runtime = ("dtype", "attention", "remat")  # how it was computed, not what it is
    return {
        "architecture": {k: v for k, v in settings.model.items() if k not in runtime},
        "preprocessing": {
            "pixels": "uint8, grey or RGB, divided by 255; everything outside the sector black",
            "frames": settings.model.frames,
            "size": settings.model.size,
            "window_seconds": settings.data.window_seconds,
        },
        "objective": settings.objective.to_dict(),
        "provenance": {
            "software": f"echofm_jax {__version__}",
            "step": step,
            "clips_seen": step * settings.data.batch_size,
            "batch_size": settings.data.batch_size,
            "optimizer": settings.optim.to_dict(),
            "seed": settings.seed,
            "started_from": origin or "random parameters",
            "data": kind_of_data(settings.data.dir),
        },
    }


def kind_of_data(data_dir: str) -> str:
    """`simulated clips` or `recorded clips`; `unknown` where the data are out of reach."""
    from data_pipelines import shards

    try:
        simulated = shards.dataset_info(data_dir).simulated
    except InputError:
        return "unknown"
    return "simulated clips" if simulated else "recorded clips"


def read_origin(workdir: Path) -> dict:
    """Which weights the workdir was imported from; empty if it was not."""
    file = workdir / ORIGIN
    return json.loads(file.read_text()) if file.is_file() else {}


def read_evaluation(workdir: Path, step: int) -> dict:
    """What `echofm evaluate` measured of this step; empty if it did not."""
    file = workdir / "evaluation.json"
    measured = json.loads(file.read_text()) if file.is_file() else {}
    return measured if measured.get("step") == step else {}


if __name__ == "__main__":
    sys.exit(cli.run("export", sys.argv[1:]))
