"""`echofm phantom`: simulated echo studies as DICOM, AVI, MP4 and npy files, with their truth."""

import argparse
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipelines.places import data_folder
from echofm_jax import cli
from echofm_jax.atomic import new_folder
from echofm_jax.errors import InputError

EXAMPLE = """example:
  echofm phantom --output studies --data_dir data          # files, and shards made of them
  echofm phantom --output af --rhythm sinus=3 atrial_fibrillation=1 --views A4C A2C
  echofm phantom --output valves --views PLAX A4C --colour 0.5
  echofm phantom --output walls --views PLAX --hypertrophy 0.4

It writes studies/P001/... with invented identities, labels.jsonl (phase of every frame, ED, ES,
view, rhythm, ejection fraction, grades of the aortic valve, masks; in PLAX the points where
septum, cavity and posterior wall are measured at ED and ES) and, beside it, studies-truth/:
truth.jsonl (rhythm, R waves, RR intervals, ejection fraction of every beat; in PLAX ivs, lvid and
lvpw in mm at ED and ES) and for each clip P001_1.npz (volumes [T] in ml; masks of LV, LA, RV, RA
and myocardium, for np.unpackbits(..., axis=-1, count=width)) and P001_1_FRAME.png, the label maps
of its first ED and ES.

rhythms and their default shares of the patients: sinus 5 (40-160 a minute), sinus_arrhythmia 1,
atrial_fibrillation 2, premature_beats 1, bigeminy 1. Aortic stenosis and regurgitation are each
absent in 60 % of patients, early in 20 %, significant in 20 %; stenosis shows in PLAX,
regurgitation in colour. Ejection fraction 15-75 %, 20-80 frames a second (colour 20-30), 2-4 s.
views, in turn: A4C, A2C, PLAX, PSAX_MV, PSAX_PM, PSAX_AP.

With --data_dir, what it wrote goes through `echofm ingest`; for its other options call it yourself.
It is a simulation: nothing in it was measured on a person."""
SHARES = {"sinus": 5.0, "sinus_arrhythmia": 1.0, "atrial_fibrillation": 2.0, "premature_beats": 1.0,
          "bigeminy": 1.0}  # fmt: skip
GOLDEN = 0.618033988749895  # its multiples fill [0, 1) evenly: any number of them has the shares
SILVER = 0.414213562373095  # likewise, and independently of it


class Content(NamedTuple):
    """What all studies of one call share."""

    shares: dict[str, float]  # rhythms, of patients
    views: Sequence[str]
    colour: float  # share of the clips whose view has it
    overlays: Sequence[str]
    size: tuple[int, int]  # H, W in pixels
    seed: int
    hypertrophy: float  # share of the patients


class Task(NamedTuple):
    """One clip to write: into which folders, of which study."""

    folder: Path
    truth: Path
    truth_name: str  # that folder's in the end
    study: int
    number: int  # within the study
    index: int  # over all studies
    content: Content


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        "echofm phantom", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--output", required=True, type=Path, help="a folder that does not exist")
    add("--data_dir", type=data_folder, help="ingest the studies into this data set, too")
    add("--studies", type=int, default=20, help="simulated patients")
    add("--clips_per_study", type=int, default=2)
    add("--rhythm", nargs="+", metavar="NAME[=SHARE]", help="default: all, as below")
    add("--views", nargs="+", metavar="VIEW", help="default: all, in turn")
    add("--colour", type=float, default=0.0, help="share of PLAX and A4C in colour Doppler (0-1)")
    add("--hypertrophy", type=float, default=0.0, help="share of patients with thick walls (0-1)")
    add("--overlays", nargs="*", metavar="KIND", help="text, ruler, ecg, logo; default all")
    add("--size", nargs=2, type=int, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="figures as JSON on the last line")
    args = parser.parse_args(argv)
    content = check(args)
    ingestion = _ingestion(args)
    summary = write_studies(args.output, args.studies, args.clips_per_study, content)
    print(f"{summary['clips']} simulated clips of {summary['studies']} invented patients")
    print(f"files and labels.jsonl: {args.output}")
    print(f"volumes, masks, rhythms: {summary['truth']}")
    if ingestion:
        from data_pipelines import ingest, ingest_report

        summary["ingest"] = ingest.ingest(ingestion)
        ingest_report.print_summary(summary["ingest"])
    else:
        print(f"next: echofm ingest --source {args.output} --data_dir DATA")
    if args.json:
        print(json.dumps(summary))
    return 0


def check(args: argparse.Namespace) -> Content:
    """What is asked for. Raises InputError for what makes no sense or is unknown."""
    from data_pipelines.phantom_image import VIEWS
    from data_pipelines.phantom_screen import OVERLAYS

    if args.studies < 1 or args.clips_per_study < 1 or args.seed < 0:
        raise InputError(
            f"--studies={args.studies} and --clips_per_study={args.clips_per_study} must be at "
            f"least 1, --seed={args.seed} at least 0"
        )
    for option in ("colour", "hypertrophy"):
        if not 0 <= (share := getattr(args, option)) <= 1:
            raise InputError(f"--{option}={share:g} must be a share from 0 to 1")
    if not all(64 <= side <= 4096 for side in args.size):
        raise InputError(f"--size {args.size[0]} {args.size[1]}: 64 to 4096 pixels a side")
    views = VIEWS if args.views is None else args.views
    overlays = OVERLAYS if args.overlays is None else args.overlays
    for option, given, known in (("views", views, VIEWS), ("overlays", overlays, OVERLAYS)):
        if unknown := [name for name in given if name not in known]:
            raise InputError(f"--{option}: unknown {unknown[0]}; known: {', '.join(known)}")
    shares = SHARES if args.rhythm is None else parse_shares(args.rhythm)
    return Content(
        shares, views, args.colour, overlays, tuple(args.size), args.seed, args.hypertrophy
    )


def parse_shares(words: Sequence[str]) -> dict[str, float]:
    """NAME[=SHARE] … → {rhythm: share}. Raises InputError naming the first that is wrong."""
    shares = {}
    for word in words:
        name, given, share = word.partition("=")
        if name not in SHARES:
            raise InputError(f"--rhythm: unknown {name}; known: {', '.join(SHARES)}")
        try:
            shares[name] = float(share) if given else 1.0
        except ValueError:
            shares[name] = 0.0
        if not 0 < shares[name] < float("inf"):
            raise InputError(f"--rhythm {word}: the share must be a number above 0")
    return shares


def rhythm_of(study: int, shares: dict[str, float]) -> str:
    """The rhythm of a study, such that any number of studies has about these shares."""
    at = (study + 0.5) * GOLDEN % 1 * sum(shares.values())
    ends = itertools.accumulate(shares.values())
    return list(shares)[sum(end <= at for end in ends)]


def _ingestion(args: argparse.Namespace) -> argparse.Namespace | None:
    """The options of `echofm ingest`, checked before anything is written."""
    if args.data_dir is None:
        return None
    from data_pipelines import ingest

    colour = ["--colour"] if args.colour else []
    options = ingest.parse(
        ["--source", str(args.output), "--data_dir", str(args.data_dir), *colour]
    )
    ingest.check(options)
    return options


def write_studies(output: Path, studies: int, clips_per_study: int, content: Content) -> dict:
    """Write every study, labels.jsonl and the truth; whole or not at all.

    Raises:
      InputError: `output` or `output`-truth exists or cannot be written.
    """
    from tqdm import tqdm

    from data_pipelines.workers import map_in_order

    truth = output.with_name(f"{output.name}-truth")
    total = studies * clips_per_study
    rhythms, views = Counter(), Counter()
    with (
        new_folder(truth) as truth_folder,
        new_folder(output) as folder,
        (folder / "labels.jsonl").open("w") as labels,
        (truth_folder / "truth.jsonl").open("w") as truths,
    ):
        tasks = [
            Task(folder, truth_folder, truth.name, *divmod(index, clips_per_study), index, content)
            for index in range(total)
        ]
        done = map_in_order(write_clip, tasks, len(os.sched_getaffinity(0)))
        for label, known in tqdm(done, "phantom", total, unit="clip", file=sys.stderr):
            labels.write(json.dumps(label) + "\n")
            truths.write(json.dumps(known) + "\n")
            rhythms[known["rhythm"]] += 1
            views[label["view"]] += 1
    return {
        "studies": studies, "clips": total, "rhythms": rhythms, "views": views,
        "output": str(output), "truth": str(truth), "seed": content.seed,
    }  # fmt: skip


def write_clip(task: Task) -> tuple[dict, dict]:
    """One clip's file and truth; returns its lines of labels.jsonl and of truth.jsonl."""
    import cv2
    import numpy as np

    from data_pipelines.phantom_files import FORMATS, identity, shown
    from data_pipelines.phantom_heart import Heart
    from data_pipelines.phantom_image import simulate
    from data_pipelines.phantom_points import named_points, thickness
    from data_pipelines.records import STRUCTURES

    cv2.setNumThreads(1)
    folder, truth, truth_name, study, number, index, content = task
    seed = content.seed
    patient, person = f"P{study + 1:03d}", identity(study, seed)
    # The same heart in all clips of a study.
    heart = Heart.draw(np.random.default_rng([seed, study]), rhythm_of(study, content.shares))
    if (study + 0.5) * SILVER % 1 < content.hypertrophy:
        heart = heart.hypertrophic(np.random.default_rng([seed, study, 5]))
    view = content.views[index % len(content.views)]
    colour = (index + 0.5) * GOLDEN % 1 < content.colour
    clip = simulate(view, seed * 100_000 + index, content.size, heart, colour)
    suffix, write = FORMATS[index % len(FORMATS)]
    name = f"{person['name'].split('^')[0]}_{person['seen']}_{number + 1}"
    path = folder / patient / f"{name}{suffix}"
    path.parent.mkdir(exist_ok=True, parents=True)
    write(path, clip, person, overlays=content.overlays)
    np.savez_compressed(
        truth / f"{patient}_{number + 1}.npz",
        volumes=clip.volumes,
        heart_rate=clip.heart_rate,
        **{mask: np.packbits(pixels, axis=-1) for mask, pixels in clip.masks.items()},
        width=clip.frames.shape[2],
    )
    masked = sorted({*clip.end_diastole[:1].tolist(), *clip.end_systole[:1].tolist()})
    for frame in masked:
        label_map = np.zeros(clip.frames.shape[1:3], np.uint8)
        for structure, pixels in clip.masks.items():
            label_map[pixels[frame]] = STRUCTURES.index(structure)
        own = label_map[shown(clip, suffix)]
        cv2.imwrite(str(truth / f"{patient}_{number + 1}_{frame}.png"), own)
    label = {
        "file": path.relative_to(folder).as_posix(),
        "patient": patient,
        "fps": clip.fps,
        "view": view,
        "rhythm": clip.rhythm,
        "phase": [round(float(p), 5) % 1 for p in clip.phase],
        "end_diastole": clip.end_diastole.tolist(),
        "end_systole": clip.end_systole.tolist(),
        "ejection_fraction": round(clip.ejection_fraction, 3),
        "aortic_stenosis": clip.aortic_stenosis,
        "aortic_regurgitation": clip.aortic_regurgitation,
        "masks": {
            str(frame): f"../{truth_name}/{patient}_{number + 1}_{frame}.png" for frame in masked
        },
        "simulated": True,
    }
    if clip.points.size:
        label["points"] = named_points(clip, shown(clip, suffix))
    known = {
        "file": label["file"],
        "patient": patient,
        "rhythm": clip.rhythm,
        "colour": clip.frames.ndim == 4,
        "heart_rate": round(clip.heart_rate, 2),
        "r_waves": clip.r_waves.round(4).tolist(),
        "rr_intervals": clip.rr_intervals.round(4).tolist(),
        "premature": clip.premature.tolist(),
        "beat_ejection_fractions": clip.beat_ejection_fractions.round(2).tolist(),
        "simulated": True,
    }
    if clip.points.size:
        known["thickness_mm"] = thickness(clip)
    return label, known


if __name__ == "__main__":
    sys.exit(cli.run("phantom", sys.argv[1:]))
