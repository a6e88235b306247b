"""Where a data set goes and what belongs to it; what must lie elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path

from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError


def check_places(data_dir: Path, root: Path, private: Mapping[str, Path]) -> None:
    """Refuse a source in the data set or its journal, and there what is its owner's alone.

    The same in any other data set, where journal and report of one below it would lie as well.

    Args:
      root: of the source.
      private: files by the options that name them.
    """
    if inner := data_set_below(data_dir):
        raise InputError(
            f"--data_dir {data_dir}: the data set {inner} lies in it: give a folder of its own"
        )
    own = data_dir, journal_folder(data_dir)
    for folder in own:
        if real(root).is_relative_to(real(folder)):
            raise InputError(
                f"--data_dir {data_dir}: the source lies in {folder}: give the data set a folder "
                "of its own"
            )
    for option, path in private.items():
        for folder in own:
            if any(place.is_relative_to(real(folder)) for place in both(path)):
                raise lies_in(option, path, folder)
    for option, path in {"--data_dir": data_dir, **private}.items():
        for folder in (parent for place in both(path) for parent in place.parents):
            if holds_data_set(folder):
                raise lies_in(option, path, f"the data set {folder}")


def both(path: Path) -> tuple[Path, Path]:
    """Where a path leads, and where it lies itself: a link is replaced, and has neighbours."""
    return real(path), real(path.parent) / path.name


def lies_in(option: str, path: Path, folder: Path | str) -> InputError:
    """What the user is told of a file that would go where the data go."""
    return InputError(
        f"{option} {path}: lies in {folder}, and what tells file names or the salt must not be "
        "handed on with the data: give another place"
    )


def holds_data_set(folder: Path) -> bool:
    """Whether there is a finished one; not below it."""
    from data_pipelines.shards import target_folder  # takes a second

    return os.access(target_folder(folder) / "echofm.json", os.F_OK)  # never raises


def data_set_below(folder: Path) -> Path | None:
    """A finished data set in a folder, which is not the folder's own."""
    from data_pipelines.shards import target_folder

    own = target_folder(folder)
    name = own.relative_to(folder)  # of what every data set has below its folder
    for told in folder.rglob(str(name / "echofm.json")):
        if told.parent != own:
            return told.parents[len(name.parts)]
    return None


def real(path: Path) -> Path:
    """Where a path leads, whether or not something is there."""
    return Path(os.path.realpath(path))


def own_path(name: str) -> Path:
    """A file of the user's; no shell puts the home directory for ~ behind a `=`."""
    return Path(name).expanduser()


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
