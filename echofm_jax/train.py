"""`echofm train`: the loop on one page. Mesh → data → state → restore → step → save → log.

    echofm train --config=configs/smoke.py --workdir=runs/smoke --config.data.dir=DATA

Run again with the same workdir it resumes, and needs no config. SIGTERM or Ctrl-C finishes the
step, saves and stops; after `kill -9` the last whole checkpoint is taken.
"""

import argparse
import dataclasses
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from data_pipelines import shards
from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax import cli, perf
from echofm_jax import config as configs
from echofm_jax.buckets import local_path
from echofm_jax.checkpoint import Checkpoints
from echofm_jax.errors import InputError
from echofm_jax.host_memory import return_free_memory
from echofm_jax.metrics import Report
from echofm_jax.preemption import StopSignals
from echofm_jax.program import build
from echofm_jax.sharding import make_mesh, place_batch

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """The command; returns the exit status (128 + signal number after an orderly stop)."""
    parser = argparse.ArgumentParser(
        "echofm train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", help="FILE.py[:variant]; without it the workdir's own")
    parser.add_argument("--workdir", required=True, type=local_path)
    args, overrides = parser.parse_known_args(argv)
    for extra in overrides:
        if not extra.startswith("--config."):
            raise InputError(f"unknown argument {extra}: see `echofm train --help`")
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("echofm_jax").setLevel(logging.INFO)
    config = choose_config(args.config, overrides, args.workdir)
    return train(config, args.workdir)


def choose_config(spec: str | None, overrides: Sequence[str], workdir: Path) -> ConfigDict:
    """The given config, or the workdir's own; refuses a workdir of another model."""
    known = configs.load(workdir) if (workdir / "config.json").exists() else None
    if spec is None:
        if known is None:
            raise InputError(f"nothing to resume in {workdir}: give --config=FILE.py")
        return configs.override(known, overrides)
    config = configs.parse(overrides, spec)
    if known is not None:
        configs.refuse_other_model(config, known, workdir)
    return config


def train(config: ConfigDict, workdir: Path) -> int:
    """Train to the recipe's last step, from wherever the workdir stands."""
    # ---- mesh and data ---------------------------------------------------------------------
    axes = config.mesh
    mesh = make_mesh(slices=axes.slices, fsdp=axes.fsdp, tensor=axes.tensor)
    if not config.data.dir:
        raise InputError("no data: give --config.data.dir=DIR, what `echofm ingest` wrote")
    info = shards.dataset_info(config.data.dir)
    loader = make_loader(
        loader_config(config),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    program = build(config, mesh, info.records["train"], colour=info.colour)
    recipe = program.recipe
    # ---- workdir ---------------------------------------------------------------------------
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        configs.save(config, workdir)
        checkpoints = Checkpoints(
            workdir, every=config.train.checkpoint_every, keep=config.train.keep
        )
    except OSError as error:
        raise InputError(
            f"cannot write to workdir {workdir}: {error.strerror}; choose another --workdir"
        ) from error
    log.info("%s\n%s", config, recipe)
    axes = " × ".join(f"{size} {name}" for name, size in mesh.shape.items())
    log.info("mesh: %s, on %s", axes, jax.devices()[0].device_kind)
    # ---- state -----------------------------------------------------------------------------
    restored = checkpoints.restore(program.state)
    if restored is None:
        state = program.init(jax.random.key(config.seed))
    else:
        state, position = restored
        loader.set_state(position)
    start = int(state["step"])
    if start >= recipe.steps:
        log.info(
            "finished already: step %d of %d; raise optim.epochs for more", start, recipe.steps
        )
        return 0
    log.info("starting from step %d%s", start, "" if restored else " (fresh)")
    # ---- step ------------------------------------------------------------------------------
    batch = place_batch(next_batch(loader), mesh)
    began = time.monotonic()
    update = program.lower().compile()
    return_free_memory()
    log.info("compiled in %.1f s", time.monotonic() - began)
    flops = config.data.batch_size * perf.step_flops(program.arch, program.objective)
    # ---- loop. The order matters: the loader's position is saved before its next batch. ------
    report = Report(config, workdir, start, recipe.steps, program.schedule, flops)
    with report, StopSignals() as stop:
        for step in range(start + 1, recipe.steps + 1):
            state, metrics = update(state, batch)
            last = step == recipe.steps or stop.received is not None
            checkpoints.save(step, state, loader.get_state(), force=last)
            report.log(step, metrics)
            if last or report.diverged:
                break
            batch = place_batch(next_batch(loader), mesh)
    checkpoints.finish()
    if report.diverged:
        raise InputError(report.diverged)
    if stop.received is not None and step < recipe.steps:
        log.info("stopped at step %d: run the same command to continue", step)
        return 128 + stop.received
    log.info("trained %d steps: next `echofm evaluate --workdir=%s`", step, workdir)
    return 0


def loader_config(config: ConfigDict, **changes) -> LoaderConfig:
    """The loader's part of a config."""
    data, model = config.data, config.model
    return dataclasses.replace(
        LoaderConfig(
            data_dir=data.dir,
            batch_size=data.batch_size,
            frames=model.frames,
            size=model.size,
            tubelet=model.tubelet,
            patch=model.patch,
            window_seconds=data.window_seconds,
            assumed_fps=data.assumed_fps,
            masking=config.objective.masking,
            seed=config.seed,
            workers=data.workers,
        ),
        **changes,
    )


def next_batch(loader) -> dict:
    """The next batch, only what the step reads."""
    batch = next(loader)
    return {name: batch[name] for name in ("clip", "noise")}


if __name__ == "__main__":
    sys.exit(cli.run("train", sys.argv[1:]))
