"""What is to be ingested: files, and what their owner says of them."""

from pathlib import Path
from typing import NamedTuple

from data_pipelines.labels import Label


class Source(NamedTuple):
    """Files in sorted order, with their labels."""

    root: Path  # what the report's paths and the labels' keys are relative to
    files: list[Path]
    labels: dict[str, Label]  # by path below the root, with slashes
    precropped: bool  # the pictures hold the sector and nothing else
