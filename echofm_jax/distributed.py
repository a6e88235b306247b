"""Several processes as one run: start-up, agreement, and the end of all when one is lost.

Every host runs the same command. What TPU VMs, GKE, SLURM or Open MPI say about themselves is
enough; elsewhere the environment says it:

    JAX_COORDINATOR_ADDRESS=HOST0[:PORT] JAX_NUM_PROCESSES=4 JAX_PROCESS_ID=2 echofm train ...

JAX_COORDINATOR_PORT alone changes the port. Only this port of host 0 must be open to the others.

When a host is lost the others stop, and the same command continues from the last checkpoint:

| the host                                 | the others end after | status                 |
| ---------------------------------------- | -------------------- | ---------------------- |
| did not come                             | 50 s                 | 75                     |
| its process ended, however               | 1 s                  | 75, or its own 1 or 2  |
| its machine or network is gone           | 30 s                 | 75                     |
| its process is frozen, its machine lives | 66 s                 | 134, JAX's own abort   |
"""

import contextlib
import ctypes
import hashlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import jax
import numpy as np
from jax._src.clusters import ClusterEnv  # the only way to learn the address before JAX connects
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from echofm_jax import lifeline
from echofm_jax.errors import InputError, TryAgain

log = logging.getLogger(__name__)
PORT = "8476"  # where the environment gives an address without one
SKEW = 5.0  # seconds between clocks that are worth a warning; a busy host 0 measures 2 too many
FROZEN = 60  # seconds after which JAX ends a run whose peer neither works nor closes its line
LONGEST = 1000  # bytes of a note that hosts exchange


class Place(NamedTuple):
    """This process in its cluster."""

    address: str
    count: int
    index: int
    local_devices: list[int] | None


def find_place() -> Place | None:
    """What the environment says; None for a process on its own.

    Raises:
      InputError: the environment contradicts itself.
      TryAgain: the coordinator's name is not known yet.
    """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    address, count, index = (os.environ.get(name) for name in names)
    if address and ":" not in address:
        address = f"{address}:{os.environ.get('JAX_COORDINATOR_PORT', PORT)}"
    devices = os.environ.get("JAX_LOCAL_DEVICE_IDS")  # else SLURM's processes take one GPU each
    try:
        given = [int(number) if number else None for number in (count, index)]
        local = [int(number) for number in devices.split(",")] if devices else None
    except ValueError as error:
        raise InputError(
            f"{names[1]}={count}, {names[2]}={index}, JAX_LOCAL_DEVICE_IDS={devices}: give whole "
            "numbers"
        ) from error
    try:
        found = Place(
            *ClusterEnv.auto_detect_unset_distributed_params(
                address or None, *given, local, None, int(lifeline.ARRIVAL)
            )
        )
    except RuntimeError as error:
        raise TryAgain(f"host 0 did not come: {error}") from error
    if found[:3] == (None, None, None) or found.count == 1:
        return None
    if None in found[:3] or not 0 <= found.index < found.count:
        said = ", ".join(f"{name}={value}" for name, value in zip(names, found[:3], strict=True))
        raise InputError(
            f"{said}: set all three on every host, {names[2]} from 0 to {names[1]} - 1"
        )
    return found


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Join the other hosts, if there are any; then an error on one of them is the end of all.

    A host that is lost ends the others with status 75, an InputError ends all with 2, anything
    else with 1; each says in one line which host it was.

    Raises:
      TryAgain: some host did not come (see `lifeline.meet`).
      InputError: the environment contradicts itself.
    """
    place = find_place()
    if place is None:
        yield
        return
    line = lifeline.meet(place.address, place.count, place.index)
    # JAX aborts when the coordinator is lost, maybe before our own line is read. As a handler,
    # `sleep` gets the number of the signal, 6: seconds for the line to end this process properly.
    # (So `kill -ABRT` ends nothing before the run leaves the cluster; use TERM.)
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGABRT, libc.sleep)
    try:
        warn_of_clocks(line)
        jax.distributed.initialize(
            place.address,
            place.count,
            place.index,
            place.local_devices,
            initialization_timeout=int(lifeline.ARRIVAL),
            heartbeat_timeout_seconds=FROZEN,
            shutdown_timeout_seconds=FROZEN,
        )
        yield
    except BaseException as error:
        if not isinstance(error, InputError | TryAgain | KeyboardInterrupt):
            line.await_verdict()  # most likely a peer is gone, and the line says which
        end_all(line, error)
    line.leave()
    signal.signal(signal.SIGABRT, signal.SIG_DFL)  # from here on an abort is one
    jax.distributed.shutdown()


def end_all(line: lifeline.Lifeline, error: BaseException) -> NoReturn:
    """Tell every host of an error and end this one, as `cli` would.

    Leaving through JAX's own exit handler would wait for the others.
    """
    status = {KeyboardInterrupt: 130}.get(type(error), getattr(error, "status", 1))
    if not line.tell(status, f"{line.name(line.index)}: {one_line(error)}"):
        line.await_verdict()  # another host was faster
    if status == 1:
        traceback.print_exception(error)
    else:
        print(f"echofm: {one_line(error)}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(status)


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def warn_of_clocks(line: lifeline.Lifeline) -> None:
    """Name hosts whose clock is off; nothing depends on it but the times in logs and files."""
    for host, ahead in enumerate(line.ahead):
        if line.index == 0 and abs(ahead) > SKEW:
            word = "ahead of" if ahead > 0 else "behind"
            log.warning(
                "clock of %s is %.0f s %s host 0's: its times in logs are wrong, the run is not",
                line.name(host), abs(ahead), word,
            )  # fmt: skip


def introduce(mesh: Mesh) -> None:
    """Say who we are; from here on host 0 alone tells of the run, the others of their troubles."""
    axes = " × ".join(f"{size} {name}" for name, size in mesh.shape.items())
    log.info(
        "host %d of %d: %d of %d devices (%s), %d slice(s), mesh %s",
        jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count(),
        jax.devices()[0].device_kind, mesh.shape["slice"], axes,
    )  # fmt: skip
    if jax.process_index():
        logging.getLogger("echofm_jax").setLevel(logging.WARNING)


def gather(note: str) -> list[str]:
    """Every host's note, by host; all must call it at the same point of the program."""
    if jax.process_count() == 1:
        return [note]
    own = np.frombuffer(note.encode()[:LONGEST].ljust(LONGEST, b"\0"), np.uint8)
    notes = multihost_utils.process_allgather(own)  # [hosts, LONGEST]
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in notes]


def require_same(what: str, value: dict) -> None:
    """Refuse, on all hosts, a value that is not the same on all of them."""
    notes = gather(hashlib.sha256(repr(value).encode()).hexdigest())
    others = ", ".join(str(host) for host, note in enumerate(notes) if note != notes[0])
    if others:
        raise InputError(
            f"host {others} has another {what} than host 0: start the same command on the same "
            "data everywhere"
        )


def agree(problem: str) -> str:
    """What any host found wrong, with the host's index, or "" if none did; equal on all."""
    problems = gather(problem)
    if len(problems) == 1:
        return problem
    return "; ".join(f"host {i}: {said}" for i, said in enumerate(problems) if said)
