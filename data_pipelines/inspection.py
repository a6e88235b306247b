"""`echofm inspect`: what a data set holds, what of it is damaged, and whether it is private."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from echofm_jax import cli
from echofm_jax.errors import InputError

EXAMPLE = """example:
  echofm inspect data/echo --out inspected
  echofm inspect data/echo --out inspected --gif train:12
  echofm inspect --privacy data/echo --salt_file ~/.config/echofm/salt --known names.txt

Exit status 1: a shard is missing, cut short or damaged, a record cannot be read, a clip is not
whole, or a patient is in two splits; with --privacy, a finding of the audit."""
SHOWN = 5  # ids that a line names


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        "echofm inspect", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("data_dir", metavar="DIR", help="a data set, as given to ingest as --data_dir")
    add("--out", type=Path, metavar="FOLDER", help="gets page, contact sheet and GIF")
    add("--gif", metavar="CLIP", help="only this clip, as GIF: first digits of its id, or SPLIT:N")
    add("--privacy", action="store_true", help="audit: nothing but what a record may hold")
    add("--known", type=Path, help="with --privacy: a name, date or number a line to search for")
    add("--salt_file", type=Path, help="with --privacy: search for this secret, too")
    add("--strict", action="store_true", help="with --privacy: warnings are findings")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)))
    add("--json", action="store_true", help="figures as JSON on the last line")
    args = parser.parse_args(argv)
    if (args.known or args.salt_file or args.strict) and not args.privacy:
        raise InputError("--known, --salt_file and --strict belong to --privacy: add it")
    if args.privacy and (args.out or args.gif):
        raise InputError("--privacy writes no files: ask for --out and --gif without it")
    if args.gif and not args.out:
        raise InputError("--gif needs a folder to write into: give --out")
    if args.out:  # before an hour of reading, not after
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {args.out}: {error.strerror}; choose another folder") from None
    part = audit if args.privacy else gif if args.gif else inspect
    summary, status = part(args)
    if args.json:
        print(json.dumps(summary))
    return status


def inspect(args: argparse.Namespace) -> tuple[dict, int]:
    """Statistics, damage and, with `--out`, the page: (figures, exit status)."""
    from data_pipelines import inspect_page, inspect_scan, inspect_statistics, shards

    info, folder = shards.dataset_info(args.data_dir), shards.dataset_folder(args.data_dir)
    facts, damages = inspect_scan.scan(folder, args.workers)
    summary = {
        "simulated": info.simulated, "size": info.size, "encoding": info.encoding,
        "colour": info.colour, **inspect_statistics.statistics(facts),
        "damage": [damage._asdict() for damage in damages],
    }  # fmt: skip
    lines = told(summary)
    print("\n".join(lines))
    for damage in damages:
        print(f"damage: {damage}")
    if args.out:
        print(f"page: {inspect_page.write(args.out, folder, facts, summary)}")
    broken = ("damage", "incomplete_clips", "patients_in_two_splits")
    return summary, int(any(summary[kind] for kind in broken))


def told(summary: dict) -> list[str]:
    """The figures for a reader, a line each."""
    from data_pipelines.inspect_statistics import HISTOGRAMS

    counts = lambda pairs: ", ".join(f"{k} {n}" for k, n in pairs.items() if n) or "none"  # noqa: E731
    lines = ["simulated by `echofm phantom`: no patient is in it"] if summary["simulated"] else []
    lines += [
        f"{summary['clips']} clips of {summary['patients']} patients in {summary['records']} "
        f"records: {summary['frames']} frames, {summary['seconds']:.0f} s",
        f"frames of {summary['size']}×{summary['size']} pixels, "
        f"{'colour' if summary['colour'] else 'grey'}, {summary['encoding']}",
    ]
    for split, n in summary["splits"].items():
        lines.append(
            f"{split}: {n['clips']} clips of {n['patients']} patients, {n['records']} records"
        )
    lines += [
        f"{kind}: {counts(summary[kind])}" for kind in ("views", "rhythms", "modes", "labels")
    ]
    for name, (_, what, unit) in HISTOGRAMS.items():
        h = summary["histograms"][name]
        if h["known"]:
            spread = f"{h['min']:.3g} to {h['max']:.3g} {unit}, median {h['median']:.3g}"
            unknown = f" ({h['unknown']} unknown)" if h["unknown"] else ""
            lines.append(f"{what}: {spread} {bars(h['counts'])}{unknown}")
        else:
            lines.append(f"{what}: unknown")
    for key, what in (("duplicates", "stored twice"), ("incomplete_clips", "not whole")):
        lines += [f"clips {what}: {some(summary[key])}"] if summary[key] else []
    if pairs := summary["near_duplicates"]:
        lines.append(f"clips that look the same: {some([f'{a} and {b}' for a, b in pairs])}")
    if patients := summary["patients_in_two_splits"]:
        lines.append(f"patients in two splits: {some(patients)}")
    return lines


def bars(counts: Sequence[int]) -> str:
    """A histogram in one line of text."""
    most = max(counts)
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // most)] for count in counts)


def some(names: Sequence[str]) -> str:
    """How many, and the first few."""
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{more})"


def gif(args: argparse.Namespace) -> tuple[dict, int]:
    """One clip as an animation."""
    from data_pipelines import inspect_gif

    summary = inspect_gif.write(args.out, args.data_dir, args.gif, args.workers)
    print(f"{summary['frames']} of {summary['stored']} frames at {summary['told_fps']}")
    print(f"GIF: {summary['gif']}")
    return summary, 0


def audit(args: argparse.Namespace) -> tuple[dict, int]:
    """The privacy audit: a line for each finding."""
    from data_pipelines import privacy_audit

    summary = privacy_audit.audit(args.data_dir, args.known, args.salt_file, args.workers)
    for kind in ("findings", "warnings"):
        for line in summary[kind]:
            print(f"{kind[:-1]}: {line}")
    found, doubts = len(summary["findings"]), len(summary["warnings"])
    print(f"{summary['records']} records audited: {found} findings, {doubts} warnings")
    return summary, int(bool(found or (args.strict and doubts)))


if __name__ == "__main__":
    sys.exit(cli.run("inspect", sys.argv[1:]))
