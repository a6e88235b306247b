"""A folder or file that is there whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from echofm_jax.errors import InputError


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to fill; it becomes `target` when the block ends without an error.

    Raises InputError when `target` exists or cannot be written.
    """
    if target.exists():
        raise InputError(f"{target} exists already; give a new folder, or remove it first")
    # A sibling, so that the rename stays on one file system.
    building = target.with_name(f".{target.name}.building-{os.getpid()}")
    try:
        building.mkdir(parents=True)
        yield building
        for file in building.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        building.rename(target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}); choose another place or "
            "free some space"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """A whole file or none."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
