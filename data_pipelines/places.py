"""Where a data set goes and what belongs to it; what must lie elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path

from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError


def check_places(data_dir: Path, root: Path, private: Mapping[str, Path]) -> None:
    """Refuse a source in the data set, and in it, or in its journal, what is its owner's alone.

    Args:
      root: of the source.
      private: files by the options that name them.
    """
    if real(root).is_relative_to(real(data_dir)):
        raise InputError(
            f"--data_dir {data_dir}: the source lies there: give the data set a folder of its own"
        )
    for option, path in private.items():
        places = real(path), real(path.parent) / path.name  # a link is replaced where it lies
        for folder in (data_dir, journal_folder(data_dir)):
            if any(place.is_relative_to(real(folder)) for place in places):
                raise InputError(
                    f"{option} {path}: lies in {folder}, and must not be handed on with the data: "
                    "give it another place"
                )


def real(path: Path) -> Path:
    """Where a path leads, whether or not something is there."""
    return Path(os.path.realpath(path))


def data_folder(name: str) -> Path:
    """`--data_dir` as a path with a name: journal and report lie beside it, and bear it too.

    Raises:
      InputError: nothing can lie beside it, or it is no address.
    """
    if not name:
        raise InputError("--data_dir is empty: name a folder")
    path = local_path(name)
    if path.name in ("", ".."):  # of `.` and `..`
        path = real(path)
    if os.path.ismount(path):
        raise InputError(
            f"--data_dir {name}: is a whole disk or bucket, and journal and report would lie "
            f"outside it: name a folder in it, such as {name.rstrip('/')}/echo"
        )
    return path


def journal_folder(data_dir: Path) -> Path:
    """Where the journal of a data set lies: beside it."""
    return beside(data_dir, "ingest")


def beside(data_dir: Path, what: str) -> Path:
    """A file that belongs to a data set and does not lie in it."""
    return data_dir.with_name(f"{data_dir.name}-{what}")
