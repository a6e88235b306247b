"""The folder of a run: every host can write it, and it is the same one for all."""

import contextlib
import time
import uuid
from pathlib import Path

import jax

from echofm_jax.distributed import agree, gather
from echofm_jax.errors import InputError

VISIBLE = 10.0  # seconds until a network file system shows a new file to every host


def open_workdir(workdir: Path) -> None:
    """Make the folder if need be; every host writes a mark into it and must see host 0's.

    Raises:
      InputError: on all hosts, if one of them cannot write there or sees another folder. What was
        made to find out is removed again.
    """
    marks = [workdir / f".{name}" for name in gather(uuid.uuid4().hex)]
    host, made, problem = jax.process_index(), False, ""
    if host == 0:
        made = not workdir.exists()
        problem = write(marks[0])
    found = agree(problem)  # from here on host 0's mark is there to be seen
    if not found:
        if host:
            problem = look(marks[0]) or write(marks[host])
        found = agree(problem)
    with contextlib.suppress(OSError):
        marks[host].unlink()
    if found:
        gather("")  # every mark is gone
        if made:
            with contextlib.suppress(OSError):
                workdir.rmdir()
        gather("")  # the first host that raises ends all of them
        raise InputError(f"{found}; choose another --workdir")


def write(mark: Path) -> str:
    """Why the mark cannot be written, or ""."""
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("")
    except OSError as error:
        return f"cannot write to workdir {mark.parent}: {error.strerror or error}"
    return ""


def look(mark: Path) -> str:
    """Why host 0's mark cannot be seen, or ""."""
    end = time.monotonic() + VISIBLE
    while not mark.exists():
        if time.monotonic() > end:
            return (
                f"workdir {mark.parent} is not the folder that host 0 sees: with several hosts it "
                "must be on storage that they share"
            )
        time.sleep(0.2)
    return ""
