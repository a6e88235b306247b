"""`echofm train`: the loop on one page. Mesh → data → state → restore → step → save → log.

    echofm train --config=configs/smoke.py --workdir=runs/smoke --config.data.dir=DATA

Run again with the same workdir it resumes, and needs no config. SIGTERM or Ctrl-C finishes the
step, saves and stops; after `kill -9` the last whole checkpoint is taken. On several hosts the
same command runs on each (see `distributed.py`); if one stops, all do.
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

from data_pipelines import mixture
from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax import cli
from echofm_jax import config as configs
from echofm_jax.buckets import local_path
from echofm_jax.checkpoint import Checkpoints
from echofm_jax.compile_cache import keep_compiled, watch_cache
from echofm_jax.distributed import cluster, introduce, require_same
from echofm_jax.errors import InputError
from echofm_jax.goodput import Goodput
from echofm_jax.host_memory import return_free_memory
from echofm_jax.preemption import StopSignals
from echofm_jax.profiling import Profiler, parse_window, refuse_window
from echofm_jax.program import build
from echofm_jax.report import Report
from echofm_jax.sharding import batch_share, make_mesh
from echofm_jax.validation import Validation
from echofm_jax.watchdog import Watchdog
from echofm_jax.workdir import open_workdir

log = logging.getLogger(__name__)
OWN = {"data.dir": "", "data.cache_dir": "", "data.workers": 0}  # hosts may have each their own


def main(argv: Sequence[str]) -> int:
    """The command; returns the exit status: 75 if it is to be started again, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        "echofm train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", help="FILE.py[:variant]; without it the workdir's own")
    parser.add_argument("--workdir", required=True, type=local_path)
    parser.add_argument("--profile", metavar="START:STOP", help="trace these steps, for XProf")
    args, overrides = parser.parse_known_args(argv)
    for extra in overrides:
        if not extra.startswith("--config."):
            raise InputError(f"unknown argument {extra}: see `echofm train --help`")
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("echofm_jax").setLevel(logging.INFO)
    window = parse_window(args.profile) if args.profile else range(0)
    with cluster(), Goodput(cli.began) as goodput:
        config = choose_config(args.config, overrides, args.workdir)
        return train(config, args.workdir, goodput, window)


def choose_config(spec: str | None, overrides: Sequence[str], workdir: Path) -> ConfigDict:
    """The given config, or the workdir's own; refuses a workdir of another model."""
    known = configs.load(workdir) if (workdir / "config.json").exists() else None
    if spec is None:
        if known is None:
            raise InputError(f"nothing to resume in {workdir}: give --config=FILE.py")
        config = configs.override(known.copy_and_resolve_references(), overrides)
    else:
        config = configs.parse(overrides, spec)
    if known is not None:
        configs.refuse_other_model(config, known, workdir)
    return config


def train(config: ConfigDict, workdir: Path, goodput: Goodput, profile: range = range(0)) -> int:
    """Train to the recipe's last step, from wherever the workdir stands."""
    # ---- mesh and data ---------------------------------------------------------------------
    axes = config.mesh
    mesh = make_mesh(slices=axes.slices, fsdp=axes.fsdp, tensor=axes.tensor)
    if not config.data.dir:
        raise InputError("no data: give --config.data.dir=DIR, what `echofm ingest` wrote")
    info = mixture.dataset_info(config.data.dir)
    told = configs.leaves(config) | OWN | dataclasses.asdict(info)
    data = mixture.told(config.data.dir)
    require_same("config or data set", told | {"parts": data["parts"]})
    program = build(config, mesh, mixture.training_records(info), colour=info.colour)
    recipe = program.recipe
    share, shares = batch_share(config.data.batch_size, mesh)
    # Hosts that hold the same clips must never read different ones: no record stands in for a bad.
    alone = shares == jax.process_count()
    clips = loader_config(
        config,
        cache_dir=config.data.cache_dir,
        max_bad_records=config.data.max_bad_records if alone else 0.0,
    )
    loader = make_loader(clips, process_index=share, process_count=shares)
    held_out = Validation(config, program, clips, info.records.get("val", 0), goodput)
    refuse_window(profile, recipe.steps)
    # ---- workdir ---------------------------------------------------------------------------
    open_workdir(workdir)
    if jax.process_index() == 0:
        configs.save(config, workdir)
    keep_compiled(workdir / "compile_cache")
    checkpoints = Checkpoints(workdir, every=config.train.checkpoint_every, keep=config.train.keep)
    introduce(mesh)
    log.info("%s\n%s", config, recipe)
    # ---- state -----------------------------------------------------------------------------
    restored = checkpoints.restore(program.state)
    if restored is None:
        state = program.init(jax.random.key(config.seed))
    else:
        state, position = restored
        mixture.refuse_changed(config.data.dir, position)
        loader.set_state(position)
    start = int(state["step"])
    if start >= recipe.steps:
        if jax.process_index() == 0:
            goodput.finished_before(workdir, start)
        log.info(
            "finished already: step %d of %d; raise optim.%s for more",
            start,
            recipe.steps,
            "steps" if config.optim.steps else "epochs",
        )
        return 0
    log.info("starting from step %d%s", start, "" if restored else " (fresh)")
    goodput.open(workdir, start, write=jax.process_index() == 0)
    # ---- step ------------------------------------------------------------------------------
    batch = program.place(next(loader))
    began = time.monotonic()
    with watch_cache() as hits, goodput.time("compile"):
        update = program.lower().compile()
    return_free_memory()
    found = "found in" if hits else "not yet in"
    place = jax.config.jax_compilation_cache_dir
    log.info("compiled in %.1f s, %s the cache %s", time.monotonic() - began, found, place)
    flops = config.data.batch_size * program.objective.step_flops(program.arch)
    # ---- loop. The order matters: the loader's position is saved before its next batch. ------
    watchdog = Watchdog(goodput, config.train.watchdog, jax.process_index())
    report = Report(
        config, workdir, start, recipe.steps, program.schedule, flops, loader.most_bad, goodput,
        watchdog,
    )  # fmt: skip
    profiler = Profiler(profile, workdir, goodput)
    with watchdog, report, profiler, StopSignals() as stop:
        for step in range(start + 1, recipe.steps + 1):
            with goodput.time("step"), profiler.step(step):
                state, metrics = update(state, batch)
            goodput.running(metrics["loss"])
            stopping = stop.due(step)
            last = stopping or step == recipe.steps
            report.log(step, metrics, loader.bad_records)
            if held_out.due(step) and not stopping:
                report.held_out(step, held_out.measure(state))
            with goodput.time("checkpoint"):
                checkpoints.save(step, state, loader.get_state() | data, force=last)
            if last or report.given_up:
                break
            with goodput.time("data_wait"):
                batch = program.place(next(loader))
        with goodput.time("checkpoint"):  # a second signal must not break the last save off
            checkpoints.finish()
    if report.given_up:
        raise InputError(report.given_up)
    if step < recipe.steps:
        log.info("stopped at step %d: run the same command to continue", step)
        return stop.status
    goodput.finished = True
    log.info("trained %d steps: next `echofm evaluate --workdir=%s`", step, workdir)
    return 0


def loader_config(config: ConfigDict, **changes) -> LoaderConfig:
    """The loader's part of a config; where and how strictly training reads is training's alone."""
    data, objective = config.data, configs.objective(config)
    return dataclasses.replace(
        LoaderConfig(
            data_dir=data.dir,
            batch_size=data.batch_size,
            windows_per_record=data.windows_per_record,
            seed=config.seed,
            workers=data.workers,
            **objective.loader_fields(configs.architecture(config), data),
        ),
        **changes,
    )


if __name__ == "__main__":
    sys.exit(cli.run("train", sys.argv[1:]))
