"""`echofm embed`: features of any echo files by an exported model, in PyTorch; needs no JAX."""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_pipelines.places import own_path
from echofm_jax import cli
from echofm_jax.errors import InputError

if TYPE_CHECKING:
    from torch import nn

EXAMPLE = """example:
  echofm embed --model echofm_vitl --source studies/ --output features.parquet
  echofm embed --model echofm_vitl --source 'a4c/*.dcm' --output steps.npz --features frames

A row a file (video: the mean over its windows), a time step (frames: phase embeddings, of
EchoApex a frame's CLS token) or a window
(tokens): name, fps (0: unknown), windows, whole (false: the file is shorter than a window and was
begun anew), seconds (where the row begins) and features, float32. Windows are as long as the
model's, side by side, in the recording's middle. What the file holds and by which model is told,
as JSON, by np.load(OUTPUT)["echofm"] or the Parquet schema's metadata.

Frame rates are those of labels.jsonl in the source, if it is there (see echofm ingest), else what
each file tells, else --fps. A model whose window is in seconds refuses files without one.

Names are paths below the source and may tell whose files they are: with --salt_file they are
salted hashes. NAME-refused.csv lists by name what could not be embedded; keep it to yourself.

Killed at any moment, the same command goes on where it was (what is done lies in .OUTPUT-embed, a
hidden folder) and ends with the same bytes. Exit status 2: nothing could be embedded."""
DTYPES = ("float32", "bfloat16", "float16")


def main(argv: Sequence[str]) -> int:
    """The command."""
    args = parse(argv)
    summary = embed_files(args)
    if summary["nothing_to_do"]:
        print("nothing to do: the same command has finished before")
    shape = "×".join(map(str, summary["shape"]))
    print(
        f"embedded {summary['embedded']} of {summary['files']} files, {summary['windows']} windows"
    )
    for reason, count in summary["refused"].items():
        print(f"refused {count}: {reason}")
    if summary["refused"]:
        print(f"refused files (has their names, keep it private): {summary['refused_files']}")
    print(f"{summary['rows']} rows of {shape} {args.features} features: {summary['output']}")
    if args.json:
        print(json.dumps(summary))
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(
        "echofm embed", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--model", required=True, type=own_path, help="an exported folder, of EchoFM or Dinov2")
    add("--source", required=True, help="a folder (searched below), a glob or a file")
    add("--output", required=True, type=own_path, help="NAME.parquet or NAME.npz")
    add("--features", choices=("video", "frames", "tokens"), default="video")
    add("--fps", type=float, default=0.0, help="frame rate of files that do not tell theirs")
    add("--colour", action="store_true", help="keep colour: for Doppler; default is grey")
    add("--precropped", action="store_true", help="you vouch that frames show the image alone")
    add("--salt_file", type=own_path, help="names become hashes by this secret")
    add("--batch", type=int, default=8, help="windows in the model at once")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes that read")
    add("--device", help="cpu, cuda, cuda:1, …; default: the GPU if there is one")
    add("--dtype", choices=DTYPES, default="float32", help="the model's; features are float32")
    add("--json", action="store_true", help="figures as JSON on the last line")
    parser.set_defaults(dataset=None, labels=None)  # as source.find takes them
    return parser.parse_args(argv)


def embed_files(args: argparse.Namespace) -> dict:
    """The whole work; returns its figures. Raises InputError for what the user can mend."""
    check(args)
    from data_pipelines import deidentify, source

    found = source.find(args)
    salt = deidentify.read_salt(args.salt_file) if args.salt_file else None
    model = load(args)
    from echofm_jax.pytorch import embed_run

    try:
        return embed_run.run(args, model, found, salt)
    except OSError as error:
        raise InputError(
            f"cannot write {args.output} ({error.strerror or error}): free some space or give "
            "another place"
        ) from error


def check(args: argparse.Namespace) -> None:
    """Refuse what makes no sense before anything is read."""
    from data_pipelines import arrays

    low, high = arrays.RATES
    if args.output.suffix not in (".parquet", ".npz"):
        raise InputError(f"--output {args.output}: name a .parquet or an .npz file")
    if args.output.is_dir():
        raise InputError(f"--output {args.output}: is a folder: give the name of a file")
    if not args.output.parent.is_dir():
        raise InputError(f"--output {args.output}: {args.output.parent} is no folder: make it")
    if args.output.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError("Parquet needs pyarrow: pip install pyarrow, or name an .npz file")
    for name in ("batch", "workers"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: at least 1")
    if args.fps and not low <= args.fps <= high:
        raise InputError(f"--fps {args.fps:g}: give frames a second from {low:g} to {high:g}")


def load(args: argparse.Namespace) -> "nn.Module":
    """The exported model, on its device."""
    import torch

    from echofm_jax.pytorch.trained_echofm import load_encoder

    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model = load_encoder(args.model, dtype=getattr(torch, args.dtype)).eval()
    except (OSError, ValueError) as error:
        raise InputError(
            f"--model {args.model}: {error}; `echofm export` makes such a folder of a workdir"
        ) from None
    try:
        return model.to(torch.device(name))
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: {reason}: give another, such as cpu") from None


if __name__ == "__main__":
    sys.exit(cli.run("embed", sys.argv[1:]))
