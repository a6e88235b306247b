"""`echofm import`: weights saved by PyTorch become a workdir to go on from.

Of EchoFM, a `.pth` of the public code or of `echofm export`, an exported folder, or a bare state
dict. Of DINOv2, a `.pth` of the official code or a folder of transformers' Dinov2: EchoApex may
start from natural images. The workdir holds a config and a checkpoint of step 0, with a fresh
optimizer.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from echofm_jax import cli, import_dinov2
from echofm_jax.atomic import new_folder
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError
from echofm_jax.torch_checkpoint import (
    TorchCheckpoint,
    convert,
    read_checkpoint,
    read_official,
    sha256,
)
from echofm_jax.torch_weights import to_objective

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from echofm_jax.architecture import Architecture
    from echofm_jax.image_architecture import ImageArchitecture

__all__ = ["import_weights", "main", "read_official"]
ORIGIN = "imported.json"  # in a workdir: what its first checkpoint was made from
EXAMPLE = """example:
  echofm import echofm_vitl.pth --workdir runs/imported
  echofm train --workdir runs/imported --config.data.dir=DATA
  echofm import echofm_vitl.pth --workdir runs/paper --config configs/vit_l.py:paper
  echofm import dinov2_vitb14_pretrain.pth --workdir runs/apex --config configs/echoapex_vitb.py
"""


def main(argv: list[str]) -> int:
    """Parse, import, report."""
    parser = argparse.ArgumentParser(
        prog="echofm import",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("weights", type=Path, help=".pth, .safetensors or a folder")
    parser.add_argument(
        "--workdir", type=local_path, required=True, help="a folder that does not exist"
    )
    parser.add_argument("--config", help="FILE.py[:variant] to train with; default: the file's own")
    args = parser.parse_args(argv)
    arch, missing = import_weights(args.weights, args.workdir, args.config)
    print(f"read {arch}")
    if missing:
        print(f"missing: {', '.join(missing)}")
    print(f"wrote step 0 to {args.workdir}")
    print(f"next: echofm train --workdir {args.workdir} --config.data.dir=DATA")
    return 0


def import_weights(
    weights: Path, workdir: Path, config_spec: str | None = None
) -> tuple["Architecture | ImageArchitecture", list[str]]:
    """Make `workdir` from a file of weights; returns their architecture and what was missing.

    Raises InputError when the weights are damaged or another model's, when the workdir is in use,
    or when the given config is of another architecture.
    """
    from echofm_jax import config as configs

    with new_folder(workdir) as building:
        checkpoint = read_checkpoint(weights)
        read = import_dinov2.imported if import_dinov2.is_dinov2(checkpoint) else imported
        params, config, missing = read(checkpoint, weights, config_spec)
        configs.save(config, building)
        # Tells which weights they were, without their name.
        file = weights / "model.safetensors" if weights.is_dir() else weights
        origin = {"sha256": sha256(file), "missing": missing}
        (building / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n")
        save_step_0(params, config, building)
    return configs.architecture(config), missing


def imported(
    checkpoint: TorchCheckpoint, weights: Path, config_spec: str | None
) -> tuple[dict, "ConfigDict", list[str]]:
    """EchoFM's parameters, the config to go on with, and what was missing and assumed."""
    from echofm_jax import config as configs

    params, arch, missing = convert(checkpoint, weights)
    if config_spec is None:
        return params, config_of(checkpoint, arch), missing
    config = configs.parse([], config_spec)
    refuse_other_architecture(config, arch, config_spec, weights)
    return params, config, missing


def config_of(checkpoint: TorchCheckpoint, arch: "Architecture") -> "ConfigDict":
    """The paper's recipe, with the architecture and the objective of the file."""
    from echofm_jax.config import default_config

    config = default_config("vit_l", "official")
    config.model.update(dataclasses.asdict(arch))
    config.objective.update(to_objective(checkpoint.arguments))
    config.data.window_seconds = float(checkpoint.window_seconds)
    return config


def refuse_other_architecture(
    config: "ConfigDict", arch: "Architecture", config_spec: str, weights: Path
) -> None:
    """A given config must describe the model that the file holds."""
    if config.method != "echofm":
        raise InputError(f"{config_spec} trains {config.method}, and {weights} holds EchoFM")
    runtime = ("dtype", "attention", "remat")  # how it is computed, not what it is
    different = [
        f"model.{name} is {config.model[name]} there and {value} in the weights"
        for name, value in dataclasses.asdict(arch).items()
        if name not in runtime and config.model[name] != value
    ]
    if different:
        raise InputError(f"{config_spec} is not for {weights}: {'; '.join(different)}")


def save_step_0(params: dict, config: "ConfigDict", workdir: Path) -> None:
    """A checkpoint that `echofm train` resumes from: step 0, no moments, the data's beginning."""
    import grain
    import jax

    from echofm_jax import config as configs
    from echofm_jax.checkpoint import Checkpoints
    from echofm_jax.program import optimizer_of
    from echofm_jax.step import state_from_params

    optimizer = optimizer_of(config, configs.recipe(config, 1))
    make = jax.jit(state_from_params, static_argnums=(1, 2, 3))
    state = make(params, configs.objective(config), optimizer, config.optim.ema)
    unread = grain.experimental.ElasticIterator(
        grain.MapDataset.range(1), 1, grain.sharding.ShardOptions(0, 1)
    )
    checkpoints = Checkpoints(workdir, every=1, keep=1)
    checkpoints.save(0, state, unread.get_state(), force=True)
    checkpoints.finish()


if __name__ == "__main__":
    sys.exit(cli.run("import", sys.argv[1:]))
