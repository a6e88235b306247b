"""`echofm evaluate`: a checkpoint on held-out clips, in numbers and figures.

Agreement with the pixel prior is agreement with the teacher. Whether the model knows the cardiac
phase is asked of the labels: how far off is the same phase found in another beat, beside what raw
pixels and random weights find.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from echofm_jax import cli, phase
from echofm_jax.atomic import write_text
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError
from echofm_jax.measures import SHOWN

if TYPE_CHECKING:
    from echofm_jax.held_out_recordings import HeldOut

EXAMPLE = """example:
  echofm evaluate --workdir runs/smoke
  echofm evaluate --workdir runs/smoke --step 200 --split train --batches 4 --json
"""
BATCH = 8  # clips
TOGETHER = 16  # recordings read and embedded


def main(argv: list[str]) -> int:
    """Parse, evaluate, report."""
    parser = argparse.ArgumentParser(
        prog="echofm evaluate",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--workdir", type=local_path, required=True, help="of `echofm train` or import"
    )
    parser.add_argument("--step", type=int, help="which checkpoint; default: the newest")
    parser.add_argument("--split", help="default: val, or test where there is no val")
    parser.add_argument(
        "--batches", type=int, default=16, help=f"at most so many of {BATCH} clips (default 16)"
    )
    parser.add_argument(
        "--fit", type=int, default=256, help="recordings of train that heads are fitted on"
    )
    parser.add_argument(
        "--alone", action="store_true",
        help="without raw pixels and random weights, which it is else read beside: for sweeps",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="figures as JSON on the last line")
    args = parser.parse_args(argv)
    if args.batches < 1:
        raise InputError(f"--batches {args.batches}: give at least 1")
    if args.fit < 2:
        raise InputError(f"--fit {args.fit}: give at least 2")
    found = evaluate(args.workdir, args.step, args.split, args.batches, args.fit, args.alone)
    print(table(found))
    print(f"wrote evaluation.json and figures/ in {args.workdir}")
    if args.json:
        print(json.dumps(found))
    return 0


def evaluate(
    workdir: Path, step: int | None, split: str | None, batches: int, fit: int, alone: bool = False
) -> dict:
    """Measure a checkpoint, write `evaluation.json` and `figures/`, return what was written.

    Means are over clips (of phase, views and ejection fractions: over recordings); `intervals` are
    95 %, by bootstrap over patients. What the data cannot tell is None. Heads are fitted on `fit`
    recordings of the training split. `alone`: nothing is measured beside the model, which takes
    half the time. Raises InputError for a workdir, checkpoint or split that is
    not there.
    """
    import jax

    from data_pipelines import mixture
    from data_pipelines.clip_source import ClipSource
    from data_pipelines.loader import make_loader
    from echofm_jax import config as configs
    from echofm_jax import visualize
    from echofm_jax.checkpoint import load_params
    from echofm_jax.evaluated import evaluated
    from echofm_jax.held_out_recordings import measure_recordings
    from echofm_jax.metrics import read_metrics
    from echofm_jax.recordings import describe, read_recording, sector_mask
    from echofm_jax.train import loader_config

    # ---- workdir and data ------------------------------------------------------------------
    config = configs.load(workdir)
    if not config.data.dir:
        raise InputError(f"{workdir}: its config.json has no data.dir: train it on some data first")
    params, step = load_params(workdir, step)
    kind = evaluated(config)
    models = {"model": jax.device_put(params)}
    if not alone:
        models["random"] = kind.init(jax.random.key(config.seed + 1))
    info = mixture.dataset_info(config.data.dir)
    split = choose_split(info.records, split, config.data.dir)
    cfg = loader_config(
        config,
        split=split,
        shuffle=False,
        num_epochs=1,
        batch_size=BATCH,
        labels=True,
        **kind.loader_fields,
    )
    source = ClipSource(cfg.data_dir, split)

    def with_sectors(batch: dict) -> dict:
        sectors = [sector_mask(source[i], cfg) for i in batch["index"].tolist()]
        return batch | {"sector": np.stack(sectors)}

    # ---- clips -----------------------------------------------------------------------------
    loader = make_loader(cfg)
    first = with_sectors(next(loader))
    rest = map(with_sectors, islice(loader, batches - 1))
    clips = kind.measure(models, chain([first], rest))
    loader.close()
    index = clips.pop("index").tolist()
    # ---- whole recordings ------------------------------------------------------------------
    embedders = {name: partial(kind.embed, params) for name, params in models.items()}

    def described(source: ClipSource, rows: Sequence[int], fit: bool) -> Iterator:
        for some in tqdm(np.array_split(rows, -(-len(rows) // TOGETHER)), disable=None):
            group = [read_recording(source[int(row)], cfg) for row in some]
            if fit:
                group = [recording for recording in group if recording.labelled]
            if group:
                frames = [recording.frames for recording in group]
                found = describe(frames, embedders, kind.arch, fine=not fit, pixels=not alone)
                yield from zip(group, found, strict=True)

    training = ()
    if split != "train" and info.records.get("train"):  # else heads would be scored on their own
        known = ClipSource(cfg.data_dir, "train")
        rows = np.linspace(0, len(known) - 1, min(fit, len(known))).astype(int)
        training = described(known, rows, fit=True)
    held_out = measure_recordings(training, described(source, index, fit=False), kind.arch)
    # ---- numbers and figures ---------------------------------------------------------------
    found = {"step": step, "split": split, "clips": len(index)}
    found |= {"fitted_on": held_out.fitted_on, "patients": len(set(held_out.patients))}
    found |= summary(clips, held_out)
    kind.draw(workdir / "figures", models["model"], first, held_out, split, info.simulated)
    if logged := read_metrics(workdir / "metrics.jsonl"):
        visualize.loss_curves(workdir / "figures" / "loss.png", logged)
    write_text(workdir / "evaluation.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    return found


def choose_split(records: Mapping[str, int], split: str | None, data_dir: str) -> str:
    """The split asked for, else val, else test; `records` counts the records of each."""
    for name in [split] if split else ("val", "test"):
        if records.get(name):
            return name
    there = ", ".join(name for name, count in records.items() if count) or "none"
    raise InputError(
        f"no clip in split {split or 'val or test'} of {data_dir}: it has {there}: ingest more "
        "patients, so that some are held out, or give --split train to look at clips seen before"
    )


def summary(clips: Mapping[str, np.ndarray], held_out: "HeldOut") -> dict:
    """Means and intervals of what was measured, for JSON.

    Args:
      clips: {name: [n] of each clip, or a scalar of all}.
      held_out: of the same clips, in the same order.
    """
    patients = held_out.patients
    found = {name: float(values) for name, values in clips.items() if not np.ndim(values)}
    measured = {name: values for name, values in clips.items() if np.ndim(values)}
    measured |= held_out.probes
    for name in SHOWN.keys() - clips.keys() - measured.keys():
        measured[name] = [math.nan if r is None else r.get(name, math.nan) for r in held_out.phases]
    intervals = {}
    for name, values in measured.items():
        found[name], *intervals[name] = phase.bootstrap(values, patients)
    for name, (value, *interval) in held_out.statistics.items():
        found[name], intervals[name] = value, interval
    return {
        **{name: known(found[name]) for name in SHOWN},
        "intervals": {k: [known(x) for x in intervals[k]] for k in SHOWN if k in intervals},
        "recordings": [
            {k: known(v) for k, v in r.items()} for r in held_out.phases if r is not None
        ],
    }


def known(value):
    """Value for JSON: nan, which JSON does not have, becomes None."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def table(found: Mapping) -> str:
    """What a person reads."""
    lines = [
        f"step {found['step']}, split {found['split']}: {found['clips']} clips of "
        f"{found['patients']} patients, {len(found['recordings'])} at least a window long; heads "
        f"fitted on {found['fitted_on']} recordings of train"
    ]
    for name, (meaning, unit) in SHOWN.items():
        low, high = found["intervals"].get(name, (None, None))
        value = "not known" if found[name] is None else f"{found[name]:.4g} {unit}"
        interval = "" if low is None else f"[{low:.4g}, {high:.4g}]"
        lines.append(f"  {meaning:44s} {value:22s} {interval}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.run("evaluate", sys.argv[1:]))
