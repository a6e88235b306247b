"""`echofm phantom`: simulated echo studies as DICOM, AVI, MP4 and npy files, with their truth."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from echofm_jax import cli
from echofm_jax.atomic import new_folder
from echofm_jax.errors import InputError

EXAMPLE = """example:
  echofm phantom --output studies
  echofm ingest --source studies --data_dir data

It writes studies/P001/... with invented identities, labels.jsonl (phase of every frame, ED, ES,
view, ejection fraction) and, beside it, studies-truth/ with volumes and masks of every clip.
It is a simulation: nothing in it was measured on a person."""


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        "echofm phantom", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--output", required=True, type=Path, help="a folder that does not exist")
    add("--studies", type=int, default=20, help="simulated patients")
    add("--clips_per_study", type=int, default=2)
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="figures as JSON on the last line")
    args = parser.parse_args(argv)
    summary = write_studies(args.output, args.studies, args.clips_per_study, args.seed)
    print(f"{summary['clips']} simulated clips of {summary['studies']} invented patients")
    print(f"files and labels.jsonl: {args.output}")
    print(f"volumes and masks: {summary['truth']}")
    print(f"next: echofm ingest --source {args.output} --data_dir DATA")
    if args.json:
        print(json.dumps(summary))
    return 0


def write_studies(output: Path, studies: int, clips_per_study: int, seed: int) -> dict:
    """Write every study, labels.jsonl and the truth; whole or not at all.

    Raises:
      InputError: a number makes no sense; `output` or `output`-truth exists or cannot be written.
    """
    if studies < 1 or clips_per_study < 1 or seed < 0:
        raise InputError(
            f"--studies={studies} and --clips_per_study={clips_per_study} must be at least 1, "
            f"--seed={seed} at least 0"
        )
    from tqdm import tqdm

    from data_pipelines.workers import map_in_order

    truth = output.with_name(f"{output.name}-truth")
    total = studies * clips_per_study
    with (
        new_folder(truth) as truth_folder,
        new_folder(output) as folder,
        (folder / "labels.jsonl").open("w") as labels,
    ):
        tasks = [
            Task(folder, truth_folder, *divmod(index, clips_per_study), index, seed)
            for index in range(total)
        ]
        done = map_in_order(write_clip, tasks, len(os.sched_getaffinity(0)))
        for label in tqdm(done, "phantom", total, unit="clip", file=sys.stderr):
            labels.write(json.dumps(label) + "\n")
    return {
        "studies": studies, "clips": total, "output": str(output), "truth": str(truth),
        "seed": seed,
    }  # fmt: skip


class Task(NamedTuple):
    """One clip to write: into which folders, of which study."""

    folder: Path
    truth: Path
    study: int
    number: int  # within the study
    index: int  # over all studies
    seed: int


def write_clip(task: Task) -> dict:
    """One clip's file and truth; returns its line of labels.jsonl."""
    import cv2
    import numpy as np

    from data_pipelines.phantom_files import FORMATS, identity
    from data_pipelines.phantom_heart import Heart
    from data_pipelines.phantom_image import VIEWS, simulate

    cv2.setNumThreads(1)
    folder, truth, study, number, index, seed = task
    patient, person = f"P{study + 1:03d}", identity(study, seed)
    heart = Heart.draw(np.random.default_rng([seed, study]))  # the same in all clips of a study
    view = VIEWS[index % len(VIEWS)]
    clip = simulate(view, seed * 100_000 + index, heart=heart)
    suffix, write = FORMATS[index % len(FORMATS)]
    name = f"{person['name'].split('^')[0]}_{person['seen']}_{number + 1}"
    path = folder / patient / f"{name}{suffix}"
    path.parent.mkdir(exist_ok=True, parents=True)
    write(path, clip, person)
    np.savez_compressed(
        truth / f"{patient}_{number + 1}.npz",
        volumes=clip.volumes,
        heart_rate=clip.heart_rate,
        **{mask: np.packbits(pixels, axis=-1) for mask, pixels in clip.masks.items()},
        width=clip.frames.shape[2],
    )
    return {
        "file": path.relative_to(folder).as_posix(),
        "patient": patient,
        "fps": clip.fps,
        "view": view,
        "phase": [round(float(p), 5) % 1 for p in clip.phase],
        "end_diastole": clip.end_diastole.tolist(),
        "end_systole": clip.end_systole.tolist(),
        "ejection_fraction": round(float(clip.ejection_fraction), 3),
        "simulated": True,
    }


if __name__ == "__main__":
    sys.exit(cli.run("phantom", sys.argv[1:]))
