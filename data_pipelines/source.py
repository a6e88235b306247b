"""Which files are ingested, and what is known of them before they are opened."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from echofm_jax.errors import InputError

if TYPE_CHECKING:  # the command line needs this module, and nothing that takes a second to import
    from data_pipelines.labels import Label


class Source(NamedTuple):
    """Files in the order in which they are ingested, with their labels."""

    root: Path  # the folder that they share
    files: list[Path]  # sorted
    labels: "dict[str, Label]"  # by path below `root`
    precropped: bool  # frames hold nothing but the inside of the sector


def find(args: argparse.Namespace) -> Source:
    """The files that the command line names.

    Raises:
      InputError: there are none, or their labels are wrong.
    """
    if not args.source:  # an unset variable of the shell; as a path it is the current folder
        raise InputError("--source is empty: name a folder, a quoted glob pattern or a file")
    if args.dataset:
        from data_pipelines.datasets import open_dataset

        return open_dataset(args.dataset, Path(args.source))
    from data_pipelines import labels, readers

    root, files = readers.find_files(args.source)
    label_file = args.labels or root / "labels.jsonl"
    known = labels.read_labels(label_file) if args.labels or label_file.is_file() else {}
    return Source(root, [file for file in files if file != label_file], known, args.precropped)
