"""`echofm evaluate`: a checkpoint on held-out clips, in numbers and figures.

Agreement with the pixel prior is agreement with the teacher. Whether the model knows the cardiac
phase is asked of the labels: how far off is the same phase found in another beat, beside what raw
pixels and random weights find.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from echofm_jax import cli, phase
from echofm_jax.atomic import write_text
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError

EXAMPLE = """example:
  echofm evaluate --workdir runs/smoke
  echofm evaluate --workdir runs/smoke --step 200 --split train --batches 4 --json
"""
BATCH = 8  # clips
SHOWN = {  # name in `evaluation.json`: (what it is, its unit)
    "loss": ("total loss", ""),
    "recon": ("reconstruction loss", ""),
    "triplet": ("periodic contrast loss", ""),
    "cycle": ("cycle distillation loss", ""),
    "psnr": ("PSNR of hidden pixels inside the sector", "dB"),
    "psnr_patch_mean": ("  each hidden patch its own mean", "dB"),
    "effective_rank_model": ("effective rank of the frame embeddings", ""),
    "effective_rank_random": ("  random weights", ""),
    "prior_agreement_model": ("agreement with the pixel prior, r", ""),
    "prior_agreement_random": ("  random weights", ""),
    "cross_beat_error_model": ("cross-beat phase error", "% of a cycle"),
    "cross_beat_error_pixels": ("  raw pixels", "% of a cycle"),
    "cross_beat_error_random": ("  random weights", "% of a cycle"),
    "cross_beat_error_chance": ("  chance", "% of a cycle"),
    "heart_rate_found_model": ("share of recordings that show a cycle", ""),
    "heart_rate_found_pixels": ("  raw pixels", ""),
    "heart_rate_found_random": ("  random weights", ""),
    "heart_rate_error_model": ("heart rate error where a cycle shows", "bpm"),
    "heart_rate_error_pixels": ("  raw pixels", "bpm"),
    "heart_rate_error_random": ("  random weights", "bpm"),
    "end_diastole_error": ("end-diastole, to the nearest candidate", "s"),
    "end_systole_error": ("end-systole, to the nearest candidate", "s"),
}


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
    parser.add_argument("--json", action="store_true", help="figures as JSON on the last line")
    args = parser.parse_args(argv)
    if args.batches < 1:
        raise InputError(f"--batches {args.batches}: give at least 1")
    found = evaluate(args.workdir, args.step, args.split, args.batches)
    print(table(found))
    print(f"wrote evaluation.json and figures/ in {args.workdir}")
    if args.json:
        print(json.dumps(found))
    return 0


def evaluate(workdir: Path, step: int | None, split: str | None, batches: int) -> dict:
    """Measure a checkpoint, write `evaluation.json` and `figures/`, return what was written.

    Means are over clips (of phase: over recordings); `intervals` are 95 %, by bootstrap over
    patients. What the data cannot tell is None. Raises InputError for a workdir, checkpoint or
    split that is not there.
    """
    import jax

    from data_pipelines import mixture
    from data_pipelines.clip_source import ClipSource
    from data_pipelines.loader import make_loader
    from echofm_jax import config as configs
    from echofm_jax import visualize, visualize_attention, visualize_clips, visualize_trajectory
    from echofm_jax.attention_rollout import relevance, rollout
    from echofm_jax.checkpoint import load_params
    from echofm_jax.encode import encode
    from echofm_jax.held_out import INPUTS, measure_clips, reconstruction_frames
    from echofm_jax.metrics import read_metrics
    from echofm_jax.model import init_params
    from echofm_jax.recordings import grey, measure_recordings, read_recording, sector_mask
    from echofm_jax.train import loader_config

    # ---- workdir and data ------------------------------------------------------------------
    config = configs.load(workdir)
    if not config.data.dir:
        raise InputError(f"{workdir}: its config.json has no data.dir: train it on some data first")
    params, step = load_params(workdir, step)
    arch, objective = configs.anywhere(config), configs.objective(config)
    fresh = jax.jit(init_params, static_argnums=0)(arch, jax.random.key(config.seed + 1))
    models = {"model": jax.device_put(params), "random": fresh}
    info = mixture.dataset_info(config.data.dir)
    split = choose_split(info.records, split, config.data.dir)
    cfg = loader_config(
        config,
        split=split,
        shuffle=False,
        num_epochs=1,
        batch_size=BATCH,
        labels=True,
    )
    source = ClipSource(cfg.data_dir, split)

    def with_sectors(batch: dict) -> dict:
        sectors = [sector_mask(source[i], cfg) for i in batch["index"].tolist()]
        return batch | {"sector": np.stack(sectors)}

    # ---- clips -----------------------------------------------------------------------------
    loader = make_loader(cfg)
    first = with_sectors(next(loader))
    rest = map(with_sectors, islice(loader, batches - 1))
    clips = measure_clips(models, chain([first], rest), arch, objective)
    loader.close()
    index = clips.pop("index").tolist()
    patients = [source[i].bytes_list("patient_id")[0] for i in index]
    # ---- whole recordings ------------------------------------------------------------------
    embed = jax.jit(lambda params, clips: encode(params, clips, arch=arch).frames)
    embedders = {name: partial(embed, params) for name, params in models.items()}
    recordings, drawn = measure_recordings(
        (read_recording(source[i], cfg) for i in index), embedders, arch
    )
    # ---- numbers and figures ---------------------------------------------------------------
    found = {"step": step, "split": split, "clips": len(index), "patients": len(set(patients))}
    found |= summary(clips, recordings, patients)
    figures = workdir / "figures"
    said = {"simulated": info.simulated}
    rate, clip = float(first["fps"][0]), first["clip"][:1]
    seconds = 1 / rate if rate else float("nan")
    views = reconstruction_frames(
        models["model"], {k: first[k][:1] for k in INPUTS}, arch=arch, objective=objective
    )
    rebuilt = (*(np.asarray(view[0]) for view in views), arch.target_frames, seconds)
    visualize_clips.reconstruction(figures / "reconstruction.png", *rebuilt, **said)
    visualize_clips.reconstruction_gif(figures / "reconstruction.gif", *rebuilt, **said)
    _, shares = jax.jit(partial(rollout, arch=arch))(models["model"], clip)
    drawn_on = np.asarray(relevance(shares, arch)[0])
    visualize_attention.attention_map(
        figures / "attention.png", grey(clip[0]), drawn_on, seconds, **said
    )
    if drawn is not None:
        visualize.similarity_maps(figures / "similarity.png", **drawn["similarity"], **said)
        visualize_trajectory.trajectory(figures / "trajectory.gif", **drawn["trajectory"], **said)
    if logged := read_metrics(workdir / "metrics.jsonl"):
        visualize.loss_curves(figures / "loss.png", logged)
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


def summary(
    clips: Mapping[str, np.ndarray], recordings: Sequence[dict | None], patients: Sequence
) -> dict:
    """Means and intervals of what was measured, for JSON.

    Args:
      clips: {name: [n] of each clip, or a scalar of all}.
      recordings: of the same clips, {name: value}; None for those shorter than a window.
      patients: whose the clips are.
    """
    per_clip = {name: values for name, values in clips.items() if np.ndim(values)}
    whole = [(r, p) for r, p in zip(recordings, patients, strict=True) if r is not None]
    measured = {name: (values, patients) for name, values in per_clip.items()}
    for name in SHOWN.keys() - clips.keys():
        measured[name] = ([r[name] for r, _ in whole], [p for _, p in whole])
    found = {name: float(values) for name, values in clips.items() if not np.ndim(values)}
    intervals = {}
    for name, (values, groups) in measured.items():
        found[name], *intervals[name] = phase.bootstrap(values, groups)
    return {
        **{name: known(found[name]) for name in SHOWN},
        "intervals": {k: [known(x) for x in intervals[k]] for k in SHOWN if k in intervals},
        "recordings": [{k: known(v) for k, v in r.items()} for r, _ in whole],
    }


def known(value):
    """Value for JSON: nan, which JSON does not have, becomes None."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def table(found: Mapping) -> str:
    """What a person reads."""
    lines = [
        f"step {found['step']}, split {found['split']}: {found['clips']} clips of "
        f"{found['patients']} patients, {len(found['recordings'])} at least a window long"
    ]
    for name, (meaning, unit) in SHOWN.items():
        low, high = found["intervals"].get(name, (None, None))
        value = "not known" if found[name] is None else f"{found[name]:.4g} {unit}"
        interval = "" if low is None else f"[{low:.4g}, {high:.4g}]"
        lines.append(f"  {meaning:44s} {value:22s} {interval}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.run("evaluate", sys.argv[1:]))
