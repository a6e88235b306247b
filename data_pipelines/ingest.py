"""`echofm ingest`: raw echo files → de-identified shards, and a report of every file."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.places import beside, check_places, data_folder, journal_folder, own_path
from echofm_jax import cli
from echofm_jax.errors import InputError

EXAMPLE = """example:
  echofm ingest --source studies/ --data_dir data/echo
  echofm ingest --source studies/ --data_dir data/echo --runner beam -- --runner=FlinkRunner ...

The report lists every file by name and is meant for you alone: it lies beside the data set, not in
it. The data set holds pixels inside the ultrasound sector, timing, and salted hashes.

Killed at any moment, the same command goes on where it was. With new files in the source it adds
shards for them; what is there stays as it is, and so does every patient's split. Another source
needs another DATA_DIR. DATA_DIR-ingest remembers what was done, by salted hashes.

labels.jsonl holds a JSON object a line: "file", its path below the source, and any of patient, fps,
view, rhythm (sinus, sinus_arrhythmia, atrial_fibrillation, premature_beats or bigeminy), phase,
end_diastole, end_systole, ejection_fraction, aortic_stenosis, aortic_regurgitation (none, early or
significant), masks ({"FRAME": "MAP.png"}, from its own folder), points ({"FRAME": {"NAME": [X,
Y]}} of septum_rv, septum_lv, wall_lv, wall_outer; in no shard) and simulated."""
OVERWRITE = (
    "forget all earlier runs at once, work on every file again, and replace the data set when the "
    "new one is whole; until then the old one stays"
)


def main(argv: Sequence[str]) -> int:
    """The command."""
    from data_pipelines import ingest_report

    args = parse(argv)
    summary = ingest(args)
    ingest_report.print_summary(summary)
    if args.json:
        print(json.dumps(summary))
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's options."""
    from data_pipelines import datasets

    parser = argparse.ArgumentParser(
        "echofm ingest", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--source", required=True, help="a folder (searched below), a glob or a file")
    add("--dataset", choices=datasets.NAMES, help="the source is this public data set")
    add("--data_dir", required=True, type=data_folder, help="where the data set goes")
    add("--size", type=int, default=224, help="side of the stored frames in pixels")
    add("--encoding", choices=("jpeg", "zstd"), default="jpeg", help="zstd is lossless")
    add("--colour", action="store_true", help="keep colour: for Doppler; default is grey")
    add("--precropped", action="store_true", help="you vouch that frames show the image alone")
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
    add("--runner", choices=("local", "beam"), default="local", help="beam: on other machines too")
    add("beam_options", nargs="*", metavar="-- BEAM_OPTION", help="as Beam's runner has them")
    add("--salt_file", type=own_path, help="secret of the hashes; default ~/.config/echofm/salt")
    add("--report", type=own_path, help="default: DATA_DIR-report.csv")
    add(
        "--review",
        action="store_true",
        help="list clips without a verified sector in DATA_DIR-review.csv, to be looked at",
    )
    add("--overwrite", action="store_true", help=OVERWRITE)
    add("--json", action="store_true", help="figures as JSON on the last line")  # fmt: skip
    return parser.parse_args(argv)


def ingest(args: argparse.Namespace) -> dict:
    """Run the whole build; returns its figures. Raises InputError for what the user can mend."""
    from data_pipelines import (
        assembly,
        decide,
        deidentify,
        ingest_report,
        journal,
        shards,
        source,
        split,
        staging,
    )
    from data_pipelines.tasks import make_tasks, place

    check(args)
    shares = split.parse_shares(args.split)
    report = args.report or beside(args.data_dir, "report.csv")
    named = "--report" if args.report else "report"  # what stands beside DATA_DIR was not named
    ingest_report.require_own(named, report, ingest_report.COLUMNS)
    review = beside(args.data_dir, "review.csv") if args.review else None
    if review:
        ingest_report.require_own("review", review, ingest_report.REVIEW_COLUMNS)
    found = source.find(args)
    salt_file = args.salt_file or deidentify.default_salt_file()
    check_places(args.data_dir, found.root, {"--salt_file": salt_file, "--report": report})
    salt = deidentify.read_salt(salt_file)
    try:
        with journal.open_journal(
            args.data_dir, settings(args, salt, shares, found.root), overwrite=args.overwrite
        ) as log:
            tasks = make_tasks(args, found, salt, log.staged)
            new = [task for task in tasks if log.wants(task)]
            left_out = staging.run(
                new, args.workers, args.beam_options if args.runner == "beam" else None
            )
            entries = [
                journal.Entry(t.name, t.key, staging.get_outcome(log.staged, t.key)) for t in new
            ]
            try:
                entries, moved = decide.decide(entries, log, shares)
                log.append(entries)
            finally:  # it also says which files are at fault
                ingest_report.write_report(report, found.root, tasks, log, entries, left_out)
            if review:
                ingest_report.write_review(review, found.root, tasks, log)
            if not log.accepted:
                journal.clear(log.folder)  # nothing that a next run could build upon
                told = ingest_report.reasons(e.outcome for e in entries)
                raise InputError(
                    f"none of {len(tasks)} files is a usable echo clip "
                    f"({', '.join(f'{n} {r}' for r, n in told.items())}): see {report}"
                )
            counts = assembly.assemble(
                log, args.data_dir, size=args.size, encoding=args.encoding, colour=args.colour,
                simulated=any(e.outcome.simulated for e in log.accepted),
            )  # fmt: skip
    except OSError as error:  # of the journal and of staging
        raise shards.cannot_write(args.data_dir, error) from error
    return ingest_report.figures(tasks, log, counts) | {
        "patients_moved_to_fill_a_split": moved,
        "labels_without_file": len(found.labels.keys() - {place(t, found.root) for t in tasks}),
        "left_out_by_beam": len(left_out),
        "data_dir": str(args.data_dir),
        "report": str(report),
        "review": str(review or ""),
    }


def check(args: argparse.Namespace) -> None:
    """Refuse what makes no sense."""
    from data_pipelines import arrays, journal, shards

    if not 16 <= args.size <= shards.MAX_SIZE:
        raise InputError(
            f"--size {args.size}: frames must be from 16 to {shards.MAX_SIZE} pixels wide"
        )
    low, high = arrays.RATES
    if args.fps and not low <= args.fps <= high:
        raise InputError(
            f"--fps {args.fps:g}: give frames a second from {low:g} to {high:g}, or 0: unknown"
        )
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: at least one process must work")
    if args.beam_options and args.runner != "beam":
        raise InputError(
            "there are arguments without an option: quote a glob pattern; those of Beam need "
            "--runner beam"
        )
    if args.dataset and (args.patient_from != "auto" or args.precropped):
        raise InputError(
            "--patient_from, --precropped: a named data set says both itself; leave them out"
        )
    if args.dataset and args.labels:
        raise InputError("--labels: a named data set brings its own; leave one of both out")
    begun = journal.is_begun(journal_folder(args.data_dir))
    if shards.target_folder(args.data_dir).exists() and not begun and not args.overwrite:
        raise InputError(
            f"{args.data_dir} holds a data set already, and no journal to add to it: give another "
            "--data_dir, or --overwrite"
        )


def settings(args: argparse.Namespace, salt: bytes, shares: Sequence[float], root: Path) -> dict:
    """What all runs on a data set must agree on.

    The source among it: a file is known by its place below it, and that of another source would be
    taken for one that is done.
    """
    from data_pipelines import deidentify, records, shards

    named = ("size", "encoding", "colour", "fps", "patient_from", "dataset", "precropped")
    return {name: getattr(args, name) for name in named} | {
        "split": list(shares),
        "salt": deidentify.keyed_hash(salt, "salt"),  # tells salts apart, and nothing else
        "source": deidentify.keyed_hash(salt, "source", str(root.resolve())),
        "version": records.VERSION,
        "features": len(records.FEATURES),  # all records of a data set have the same
        "shard_bytes": shards.SHARD_BYTES,
    }


if __name__ == "__main__":
    sys.exit(cli.run("ingest", sys.argv[1:]))
