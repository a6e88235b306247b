"""`echofm ingest`: raw echo files → de-identified shards, and a report of every file."""

import argparse
import csv
import dataclasses
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from echofm_jax import cli
from echofm_jax.errors import InputError

EXAMPLE = """example:
  echofm ingest --source studies/ --data_dir data/echo

The report lists every file by name and is meant for you alone: it lies beside the data set, not in
it. The data set holds pixels inside the ultrasound sector, timing, and salted hashes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file."""

    reason: str = ""  # empty: accepted
    detail: str = ""
    mode: str = ""
    frames: int = 0
    fps: float = 0.0
    fps_source: str = ""
    clip_id: str = ""
    patient_id: str = ""
    records: tuple[bytes, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One file, and how to treat it."""

    path: Path
    patient: str  # of the folder or the file's name, if neither label nor header knows
    trust_header: bool
    label: object  # labels.Label
    salt: bytes
    size: int
    encoding: str
    colour: bool
    fps: float


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        "echofm ingest", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--source", required=True, help="a folder (searched below), a glob or a file")
    add("--data_dir", required=True, type=Path, help="where the data set goes")
    add("--size", type=int, default=224, help="side of the stored frames in pixels")
    add("--encoding", choices=("jpeg", "zstd"), default="jpeg", help="zstd is lossless")
    add("--colour", action="store_true", help="keep colour: for Doppler; default is grey")
    add("--split", default="80,10,10", help="percent of patients for train,val,test")
    add("--labels", type=Path, help="default: labels.jsonl in the source, if it is there")
    add("--fps", type=float, default=0.0, help="frame rate of files that do not tell theirs")
    add(
        "--patient_from",
        choices=("auto", "folder", "file"),
        default="auto",
        help="whose clip: auto = label, DICOM PatientID, first folder below the source, file name",
    )
    add("--workers", type=int, default=len(os.sched_getaffinity(0)))
    add("--salt_file", type=Path, help="secret of the hashes; default ~/.config/echofm/salt")
    add("--report", type=Path, help="default: DATA_DIR-report.csv")
    add("--overwrite", action="store_true", help="replace a data set that is there")
    add("--json", action="store_true", help="figures as JSON on the last line")  # fmt: skip
    args = parser.parse_args(argv)
    summary = ingest(args)
    print_summary(summary)
    if args.json:
        print(json.dumps(summary))
    return 0


def ingest(args: argparse.Namespace) -> dict:
    """Run the whole build; returns its figures. Raises InputError for what the user can mend."""
    from tqdm import tqdm

    from data_pipelines import deidentify, labels, readers, shards, split, workers

    shares = split.parse_shares(args.split)
    if args.size < 16:
        raise InputError(f"--size {args.size}: frames must be at least 16 pixels wide")
    root, files = readers.find_files(args.source)
    label_file = args.labels or root / "labels.jsonl"
    known = labels.read_labels(label_file) if args.labels or label_file.is_file() else {}
    files = [file for file in files if file != label_file]
    salt = deidentify.read_salt(args.salt_file or deidentify.default_salt_file())
    report = args.report or args.data_dir.with_name(f"{args.data_dir.name}-report.csv")
    tasks = [make_task(file, root, known, salt, args) for file in files]

    with shards.new_dataset(args.data_dir, overwrite=args.overwrite) as folder:
        writers = {name: shards.SplitWriter(folder, name) for name in shards.SPLITS}
        outcomes, seen = [], set()
        done = workers.map_in_order(ingest_file, tasks, args.workers)
        for outcome in tqdm(done, "ingest", len(files), unit="file", file=sys.stderr):
            outcome = outcome or Outcome(reason="failed", detail="its process died")
            if outcome.clip_id and outcome.clip_id in seen:
                outcome = Outcome(reason="duplicate", detail="same pixels", clip_id=outcome.clip_id)
            if not outcome.reason:
                seen.add(outcome.clip_id)
                for data in outcome.records:
                    writers[split.split_of(outcome.patient_id, shares)].write(data)
            outcomes.append(dataclasses.replace(outcome, records=()))
        patients = [o.patient_id for o in outcomes if not o.reason]
        moved = split.fill_empty(patients, shares)
        places = {p: moved.get(p) or split.split_of(p, shares) for p in patients}
        write_report(report, root, files, outcomes, places)
        if not patients:
            reasons = Counter(o.reason for o in outcomes)
            raise InputError(
                f"none of {len(files)} files is a usable echo clip "
                f"({', '.join(f'{n} {r}' for r, n in reasons.items())}): see {report}"
            )
        if moved:
            writers = redistribute(folder, writers, places)
        simulated = any(task.label.simulated for task in tasks)
        counts = shards.describe(
            folder, writers, size=args.size, encoding=args.encoding, colour=args.colour,
            simulated=simulated,
        )  # fmt: skip
    return {
        "files": len(files),
        "accepted": len(patients),
        "rejected": dict(Counter(o.reason for o in outcomes if o.reason)),
        "modes": dict(Counter(o.mode for o in outcomes if not o.reason)),
        "patients": len(places),
        "patients_by_split": dict(Counter(places.values())),
        "patients_moved_to_fill_a_split": len(moved),
        "records": counts,
        "frames": sum(o.frames for o in outcomes if not o.reason),
        "data_dir": str(args.data_dir),
        "report": str(report),
    }


def make_task(file: Path, root: Path, known: dict, salt: bytes, args) -> Task:
    """Everything a worker needs to know of a file."""
    from data_pipelines.labels import Label

    relative = file.relative_to(root)
    label = known.get(relative.as_posix(), Label())
    in_folder = len(relative.parts) > 1 and args.patient_from != "file"
    return Task(
        path=file,
        patient=relative.parts[0] if in_folder else relative.as_posix(),
        trust_header=args.patient_from == "auto",
        label=label,
        salt=salt,
        size=args.size,
        encoding=args.encoding,
        colour=args.colour,
        fps=args.fps,
    )


def ingest_file(task: Task) -> Outcome:
    """Read, clean, de-identify and encode one file; every failure is an outcome."""
    import numpy as np

    from data_pipelines import clean, deidentify, readers, segments, shards
    from data_pipelines.clip import Rejected

    try:
        clip = readers.read(task.path, colour=task.colour)
        label, count = task.label, len(clip.frames)
        if label.phase and len(label.phase) != count:
            raise Rejected("label_mismatch", f"{count} frames, {len(label.phase)} phases")
        times, source = choose_times(clip, label.fps, task.fps)
        cleaned = clean.clean(clip, size=task.size, colour=task.colour)
        patient = (label.patient if task.trust_header else "") or (
            clip.patient if task.trust_header else ""
        )
        patient = patient or task.patient
        ids = {
            "clip_id": deidentify.clip_hash(task.salt, cleaned.frames),
            "patient_id": deidentify.patient_hash(task.salt, patient),
        }
        examples = segments.make_records(
            cleaned.frames, cleaned.sector, times, label, encoding=task.encoding,
            r_waves=clip.r_waves, fps_source=source, mode=cleaned.mode,
            heart_rate=np.float32(clip.heart_rate), spacing=cleaned.spacing(clip.spacing), **ids,
        )  # fmt: skip
        fps = float((count - 1) / times[-1]) if times is not None else 0.0
        return Outcome(
            detail=clip.note, mode=cleaned.mode, frames=count, fps=fps, fps_source=source,
            records=tuple(shards.serialize(example) for example in examples), **ids,
        )  # fmt: skip
    except Rejected as rejected:
        return Outcome(reason=rejected.reason, detail=rejected.detail)
    except Exception as error:  # a bad file never stops the run; the type carries no identity
        return Outcome(reason="failed", detail=type(error).__name__)


def choose_times(clip, label_fps: float, option_fps: float):
    """(times [T] in seconds or None, source): the label's rate, the file's, the option's."""
    import numpy as np

    order = np.arange(len(clip.frames))
    if label_fps:
        return order / label_fps, "labels"
    if clip.fps:
        return clip.times, clip.fps_source
    if option_fps:
        return order / option_fps, "option"
    return None, "unknown"


def redistribute(folder: Path, writers: dict, places: dict[str, str]) -> dict:
    """Write the records again, each into the split that `places` gives its patient."""
    from data_pipelines import shards

    again = {name: shards.SplitWriter(folder, name) for name in shards.SPLITS}
    staged = folder / "staged"
    staged.mkdir()
    for old in writers.values():
        old.close()
    for part in sorted(folder.glob("part-*")):
        part.rename(staged / part.name)
    for split, old in writers.items():
        for number in range(len(old.lengths)):
            for data in shards.read_shard(staged / f"part-{split}-{number}"):
                again[places[shards.identity(data).patient_id]].write(data)
    for part in staged.iterdir():
        part.unlink()
    staged.rmdir()
    return again


def write_report(
    path: Path, root: Path, files: Sequence[Path], outcomes: Sequence[Outcome], places: dict
) -> None:
    """A line for every file; written whole, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(0o600)
        with temporary.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(
                ("file", "status", "reason", "detail", "split", "mode", "frames", "fps",
                 "fps_source", "clip_id")
            )  # fmt: skip
            for name, o in zip(files, outcomes, strict=True):
                table.writerow((
                    name.relative_to(root).as_posix(), "rejected" if o.reason else "accepted",
                    o.reason, o.detail, places.get(o.patient_id, ""), o.mode, o.frames or "",
                    f"{o.fps:.3f}" if o.fps else "", o.fps_source, o.clip_id,
                ))  # fmt: skip
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"report {path}: {error.strerror}; give --report a file you can write"
        ) from error


def print_summary(summary: dict) -> None:
    """The figures for a reader; no file is named."""
    modes = ", ".join(f"{n} {m}" for m, n in summary["modes"].items())
    print(f"accepted {summary['accepted']} of {summary['files']} files ({modes})")
    for reason, count in sorted(summary["rejected"].items()):
        print(f"rejected {count}: {reason}")
    splits = ", ".join(
        f"{split} {count} records of {summary['patients_by_split'][split]} patients"
        for split, count in summary["records"].items()
    )
    print(f"splits: {splits}")
    if summary["patients_moved_to_fill_a_split"]:
        print(
            f"{summary['patients_moved_to_fill_a_split']} patient(s) changed split because one "
            "would have been empty"
        )
    print(f"data set: {summary['data_dir']}")
    print(f"report (has file names, keep it private): {summary['report']}")


if __name__ == "__main__":
    sys.exit(cli.run("ingest", sys.argv[1:]))
