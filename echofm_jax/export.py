"""`echofm export`: a checkpoint becomes PyTorch weights, verified by running both.

Of EchoFM, the folder holds `echofm.pth` for the public PyTorch code, and for everybody else
`model.safetensors`, `config.json`, `modeling_echofm.py` and a model card: no JAX needed. It loads
with transformers, too. Programs and half-precision copies are added where asked for.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from echofm_jax import cli
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
  echofm export --workdir runs/smoke --output programs --format pt2 onnx --with-projector
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extras:
    """What an export holds beside the weights, config, code and card that everybody gets."""

    formats: tuple[str, ...] = ()  # of programs: `pt2`, `onnx`
    projector: bool = False  # the encoder's program also gives phase embeddings
    decoder: bool = False  # there is a program that reconstructs
    dtypes: tuple[str, ...] = ()  # of further copies of the weights: `bfloat16`, `float16`


def main(argv: list[str]) -> int:
    """Parse, export, report."""
    parser = argparse.ArgumentParser(
        prog="echofm export",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workdir", type=local_path, required=True, help="of `echofm train` or import")
    add("--output", type=Path, required=True, help="a folder that does not exist")
    add("--step", type=int, help="which checkpoint; default: the newest")
    add("--format", nargs="+", choices=("pt2", "onnx"), default=[], help="add the encoder as "
        "a program of torch.export (pt2) or ONNX (needs the extra `onnx`)")  # fmt: skip
    add("--with-projector", action="store_true", help="that program gives phase embeddings, too")
    add("--with-decoder", action="store_true", help="add a program that reconstructs")
    add("--dtype", nargs="+", choices=("bfloat16", "float16"), default=[],
        help="add copies of the weights in half precision")  # fmt: skip
    add("--json", action="store_true", help="figures as JSON on the last line")
    args = parser.parse_args(argv)
    extras = Extras(
        formats=tuple(dict.fromkeys(args.format)),
        projector=args.with_projector,
        decoder=args.with_decoder,
        dtypes=tuple(dict.fromkeys(args.dtype)),
    )
    report = export(args.workdir, args.output, args.step, extras)
    for clip, by_output in report["differences"].items():
        print(f"JAX and PyTorch on the {clip.replace('_', '-')} clip differ by: {text(by_output)}")
    for file, by_clip in report["also_checked"].items():
        for clip, by_output in by_clip.items():
            print(f"JAX and {file} on the {clip.replace('_', '-')} clip: {text(by_output)}")
    print(f"exported step {report['step']} to {args.output}:")
    for name, size in report["files"].items():
        print(f"  {name:28s} {size / 1e6:9.2f} MB")
    if args.json:
        print(json.dumps(report))
    return 0


def text(by_output: dict[str, float]) -> str:
    """Differences in one line."""
    return ", ".join(f"{name} {value:.1e}" for name, value in by_output.items())


def export(
    workdir: Path, output: Path, step: int | None = None, extras: Extras | None = None
) -> dict:
    """Write `output` and return {step, tolerance, differences, also_checked, files}.

    What fails leaves nothing there. Raises InputError when `output` exists or cannot be made, the
    workdir is none, PyTorch or what a format needs is absent, or the model does not bear half
    precision, and RuntimeError when JAX and what was written disagree.
    """
    extras = extras or Extras()
    if (extras.projector or extras.decoder) and not extras.formats:
        raise InputError(
            "--with-projector and --with-decoder say what a program computes (the weights are "
            "always whole): give --format pt2 or onnx, too"
        )
    try:
        import torch  # noqa: F401
    except ImportError:
        raise InputError(
            "PyTorch is needed and not installed; run: pip install 'echofm_jax[torch]'"
        ) from None
    from echofm_jax import checkpoint, config
    from echofm_jax.export_config import describe, provenance
    from echofm_jax.export_program import require_onnx

    if "onnx" in extras.formats:
        require_onnx()
    settings = config.load(workdir)
    if settings.method == "dinov2" and (extras.projector or extras.decoder or extras.dtypes):
        raise InputError(
            "--with-projector, --with-decoder and --dtype are for EchoFM; this workdir holds an "
            "image backbone, which transformers loads in any dtype: leave them out"
        )
    with new_folder(output) as building:
        params, step = checkpoint.load_params(workdir, step)
        evaluation = read_evaluation(workdir, step)
        known = provenance(settings, step, read_origin(workdir))
        if settings.method == "dinov2":
            from echofm_jax import export_dinov2

            return export_dinov2.write_folder(
                building, params, settings, known, evaluation, extras.formats, TOLERANCE
            )
        description = describe(settings, known)
        return write_folder(building, params, settings, description, evaluation, extras)


def write_folder(
    folder: Path,
    params: dict,
    settings: "ConfigDict",
    description: dict,
    evaluation: dict,
    extras: Extras,
) -> dict:
    """Write every file of an export to `folder`, check them, and return the report."""
    from echofm_jax import pytorch
    from echofm_jax.config import architecture
    from echofm_jax.export_check import check
    from echofm_jax.export_config import digests, processor
    from echofm_jax.export_program import write_programs
    from echofm_jax.model_card import model_card
    from echofm_jax.torch_parity import held_out_batch, synthetic_clip

    arch = architecture(settings)
    write_weights(folder, params, settings, extras.dtypes)
    for name in ("modeling_echofm.py", "hf_echofm.py"):
        shutil.copyfile(Path(pytorch.__file__).with_name(name), folder / name)
    config_file = folder / "config.json"
    config_file.write_text(json.dumps(description, indent=2) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(processor(description), indent=2))
    programs = write_programs(
        folder, extras.formats, projector=extras.projector, decoder=extras.decoder
    )
    description = description | {"sha256": digests(folder)}
    config_file.write_text(json.dumps(description, indent=2) + "\n")

    clips = {"synthetic": synthetic_clip(arch)}
    if (batch := held_out_batch(settings)) is not None:
        clips["held_out"] = batch["clip"]
    found, also = check(folder, params, arch, clips, programs, extras.dtypes, TOLERANCE)
    (folder / "README.md").write_text(model_card(description, evaluation, found, also))
    return {
        "step": description["provenance"]["step"],
        "tolerance": TOLERANCE,
        "differences": found,
        "also_checked": also,
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }


def write_weights(
    folder: Path, params: dict, settings: "ConfigDict", dtypes: tuple[str, ...]
) -> None:
    """`model.safetensors`, its copies in half precision, and `echofm.pth`."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from echofm_jax.config import architecture
    from echofm_jax.torch_weights import to_arguments, to_torch

    arch = architecture(settings)
    state = {key: torch.from_numpy(value) for key, value in to_torch(params, arch).items()}
    if not all(value.isfinite().all() for value in state.values()):
        raise InputError("the checkpoint holds values that are not finite; give an earlier --step")
    arguments = to_arguments(settings.model, settings.objective)
    files = {folder / "model.safetensors": torch.float32}
    files |= {folder / f"model.{name}.safetensors": getattr(torch, name) for name in dtypes}
    try:
        torch.save({"model": state, "model_args": arguments}, folder / "echofm.pth")
        for file, dtype in files.items():
            copy = {key: value.to(dtype) for key, value in state.items()}
            save_file(copy, file, metadata={"format": "pt"})
    except (OSError, RuntimeError, SafetensorError) as error:  # how each reports a full disk
        size = sum(value.nbytes for value in state.values())
        raise InputError(
            f"{folder.parent}: cannot write weights of {1 + len(files)} x {size / 1e6:.0f} MB; "
            "free some space"
        ) from error
    # safetensors lets only the owner read what it writes; an export is to be shared.
    for file in files:
        file.chmod((folder / "echofm.pth").stat().st_mode)


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
