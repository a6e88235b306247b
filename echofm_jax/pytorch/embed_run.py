"""From files to one file of features: what is missing is embedded, piece by piece."""

import argparse
import collections
import contextlib
import csv
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from data_pipelines import clean_files, deidentify, ingest_report
from data_pipelines.source import Source
from echofm_jax import __version__
from echofm_jax.errors import InputError
from echofm_jax.pytorch import embed_output
from echofm_jax.pytorch.embed_recordings import cut_for, embed_recordings
from echofm_jax.pytorch.modeling_echofm import EchoFM
from echofm_jax.torch_checkpoint import sha256

COLUMNS = ("file", "reason", "detail")
TOGETHER = 16  # files a piece: at most so many are embedded again after a kill


def run(args: argparse.Namespace, model: EchoFM, found: Source, salt: bytes | None) -> dict:
    """Embed the files that are not yet; returns the figures.

    Raises:
      InputError: nothing could be embedded, or what lies there already is of something else.
      OSError: the output cannot be written.
    """
    output, refused = args.output, args.output.with_name(f"{args.output.stem}-refused.csv")
    ingest_report.require_own("list of refused files", refused, COLUMNS)
    ours = {os.path.realpath(path) for path in (output, refused)}
    paths = [path for path in found.files if os.path.realpath(path) not in ours]
    names = [path.relative_to(found.root).as_posix() for path in paths]
    rates = [found.labels[name].fps if name in found.labels else 0.0 for name in names]
    files = [clean_files.stamped(*file) for file in zip(paths, rates, strict=True)]
    pieces = [slice(i, i + TOGETHER) for i in range(0, len(files), TOGETHER)]
    about = describe(args, model)
    keys = [embed_output.piece_key(about, names[piece], files[piece]) for piece in pieces]
    # Only who has the salt can try out what the files are called.
    about["source"] = deidentify.keyed_hash(salt or b"", "source", *keys)
    figures = {"output": str(output), "refused_files": str(refused), "nothing_to_do": False}
    with embed_output.staging(output) as folder:
        if output.exists():
            figures |= same(output, about) | {"nothing_to_do": True}
        else:
            missing = [i for i, key in enumerate(keys) if not embed_output.is_whole(folder, key)]
            embed_pieces(
                args, model, folder, [(keys[i], files[pieces[i]]) for i in missing], len(files)
            )
            outcomes = [o for key in keys for o in embed_output.read_piece(folder, key)]
            write_refused(refused, folder, names, outcomes)
            shown = [deidentify.keyed_hash(salt, "name", n) if salt else text(n) for n in names]
            table = embed_output.columns(shown, outcomes)
            about |= count(outcomes, len(table["name"]))
            if about["embedded"]:
                embed_output.write(output, folder, keys, table, about)
            figures |= about
        shutil.rmtree(folder)
    if not figures["embedded"]:
        reasons = ", ".join(f"{n} {reason}" for reason, n in figures["refused"].items())
        hint = "; give --fps" if "no_frame_rate" in figures["refused"] else ""
        raise InputError(
            f"none of {len(files)} files could be embedded ({reasons}){hint}: see {refused}"
        )
    return figures


def describe(args: argparse.Namespace, model: EchoFM) -> dict:
    """What the output depends on beside the files; it is told in there."""
    c = model.config
    width = (c.steps * c.positions, c.width) if args.features == "tokens" else (c.width,)
    return {
        "software": f"echofm_jax {__version__}",
        "model": fingerprint(args.model, args.dtype),
        "dtype": args.dtype,
        "features": args.features,
        "shape": list(width),  # of a row's features
        "frames": c.frames,
        "size": c.size,
        "window_seconds": c.window_seconds,
        "colour": args.colour,
        "precropped": args.precropped,
        "assumed_fps": args.fps,
        "names": "salted hashes" if args.salt_file else "paths",
    }


def fingerprint(folder: Path, dtype: str) -> str:
    """SHA-256 of the weights; loading them has compared it with that in `config.json`."""
    copy = folder / f"model.{dtype}.safetensors"
    file = copy if copy.is_file() else folder / "model.safetensors"
    known = json.loads((folder / "config.json").read_text()).get("sha256", {})
    return known.get(file.name) or sha256(file)


def embed_pieces(
    args: argparse.Namespace,
    model: EchoFM,
    folder: Path,
    pieces: Sequence[tuple[str, list[clean_files.File]]],
    total: int,
) -> None:
    """Embed pieces (key, files) that are missing, of `total` files in all.

    Raises InputError when the device has too little memory.
    """
    c = model.config
    cut = cut_for(c, colour=args.colour, precropped=args.precropped, fps=args.fps)
    files = [file for _, some in pieces for file in some]
    bar = tqdm(desc="embed", total=total, initial=total - len(files), unit="file", file=sys.stderr)
    found = clean_files.read_many(files, cut, min(args.workers, len(files)))
    try:
        with bar, contextlib.closing(found):
            for key, some in pieces:
                recordings = itertools.islice(found, len(some))
                embedded = embed_recordings(model, recordings, args.features, args.batch)
                embed_output.write_piece(folder, key, counted(embedded, bar))
    except torch.OutOfMemoryError:
        less = f"try --batch {args.batch // 2}" if args.batch > 1 else "try --dtype bfloat16"
        raise InputError(
            f"--batch {args.batch}: the device has too little memory: {less}; what is done is kept"
        ) from None


def counted(found: Iterable, bar: tqdm) -> Iterator:
    """The same, each shown as progress."""
    for one in found:
        yield one
        bar.update()


def same(output: Path, about: dict) -> dict:
    """What a finished output says of itself; InputError if it is of something else."""
    held = embed_output.read_meta(output)
    differ = [key for key, value in about.items() if held.get(key) != value]
    if differ:
        raise InputError(
            f"{output} exists already, made with another {', '.join(differ)}: give another "
            "--output, or remove it first"
        )
    return held


def count(outcomes: Sequence[dict], rows: int) -> dict:
    """Figures of all files."""
    reasons = collections.Counter(o["reason"] for o in outcomes if "reason" in o)
    return {
        "files": len(outcomes),
        "embedded": len(outcomes) - reasons.total(),
        "refused": dict(sorted(reasons.items())),
        "windows": sum(o.get("windows", 0) for o in outcomes),
        "rows": rows,
    }


def text(name: str) -> str:
    """A file's name, which need not be text, as one that is."""
    return os.fsencode(name).decode(errors="backslashreplace")


def write_refused(path: Path, folder: Path, names: Sequence[str], outcomes: Sequence[dict]) -> None:
    """The files that could not be embedded and why, readable by their owner alone."""
    made = folder / "refused.csv"
    made.touch(0o600)
    with made.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for name, outcome in zip(names, outcomes, strict=True):
            if "reason" in outcome:
                table.writerow((name, outcome["reason"], outcome["detail"]))
    made.replace(path)
