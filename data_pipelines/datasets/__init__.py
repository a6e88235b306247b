"""Public data sets as their owners distribute them: `echofm ingest --dataset NAME --source DIR`.

A module a data set. Each has a TITLE, the files that it EXPECTS (patterns below its root), the
PLACES in which its root may lie below the folder that is named, and `read(root) -> Source`.
"""

import collections
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from echofm_jax.errors import InputError

if TYPE_CHECKING:  # the names alone are wanted for `--help`
    from data_pipelines.source import Source

NAMES = (
    "echonet_dynamic",
    "echonet_lvh",
    "echonet_pediatric",
    "camus",
    "tmed2",
    "mimic_iv_echo",
)


def open_dataset(name: str, folder: Path) -> "Source":
    """Every file of a data set with its labels, and every one that it lists and does not have.

    Raises:
      InputError: no such folder, another data set, a table that lacks a column, has one too many,
        or holds a value that cannot be understood.
    """
    folder = Path(folder).expanduser()
    module = _module(name)
    try:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder: name the one that holds {module.TITLE}")
        root = _find_root(module, folder)
        if root is None:
            raise InputError(
                f"{folder}: not {module.TITLE}: expected {', '.join(module.EXPECTED)}; "
                f"there {_what_is_there(folder)}"
            )
        source = module.read(root)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from None
    return source._replace(files=sorted(source.files))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"data_pipelines.datasets.{name}")


def _find_root(module: ModuleType, folder: Path) -> Path | None:
    for place in module.PLACES:
        root = folder / place
        if all(any(root.glob(pattern)) for pattern in module.EXPECTED):
            return root
    return None


def _what_is_there(folder: Path) -> str:
    """What a folder holds, without names: these may be somebody's."""
    for name in NAMES:
        if _find_root(_module(name), folder):
            return f"is {_module(name).TITLE}: use --dataset {name}"
    with os.scandir(folder) as entries:
        kinds = collections.Counter(
            "folders" if entry.is_dir() else Path(entry.name).suffix.lower() or "files"
            for entry in entries
        )
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"are {counts}" if counts else "is nothing"
