"""Copies of shards on a local disk, for data sets in a mounted bucket or on a network file system.

Made once, before training, by whichever process of the machine comes first; the others wait for
it. Every host may be given any record, so each keeps all shards of the splits it reads.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from echofm_jax.errors import InputError


def cached(paths: Sequence[Path], cache_dir: str) -> list[Path]:
    """Where to read `paths`, files of one folder: as they are without a `cache_dir`, else copies.

    A copy is known by the original's folder, name, size and time of change.

    Raises:
      InputError: the copies cannot be written, or there is no room for them.
    """
    if not cache_dir:
        return list(paths)
    folder = paths[0].parent.resolve()
    target = Path(cache_dir) / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    copies = [target / path.name for path in paths]
    try:
        target.mkdir(parents=True, exist_ok=True)
        with (target / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when its holder dies
            missing = [
                (path, copy)
                for path, copy in zip(paths, copies, strict=True)
                if not is_copy(path, copy)
            ]
            needed = sum(path.stat().st_size for path, _ in missing)
            room = shutil.disk_usage(target).free
            if needed > room:
                raise InputError(
                    f"{cache_dir}: {needed / 1e9:.3g} GB of shards and room for {room / 1e9:.3g}: "
                    "free some space or train without data.cache_dir"
                )
            for path, copy in tqdm(missing, desc="copying shards", unit="shard", disable=None):
                half = copy.with_name(f".{copy.name}")
                shutil.copy2(path, half)  # with the time of change
                if not is_copy(path, half):
                    raise InputError(f"{path.name} changed while it was copied: start again")
                half.replace(copy)
    except OSError as error:
        raise InputError(
            f"cannot copy shards to {cache_dir}: {error.strerror or error}: choose another "
            "data.cache_dir or none"
        ) from error
    return copies


def is_copy(path: Path, copy: Path) -> bool:
    """Whether `copy` is there and has the size and the time of change, in seconds, of `path`."""
    if not copy.is_file():
        return False
    mine, theirs = path.stat(), copy.stat()
    return (mine.st_size, int(mine.st_mtime)) == (theirs.st_size, int(theirs.st_mtime))
