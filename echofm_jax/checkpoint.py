"""Orbax checkpoints: saved in the background, checked when read, the last whole one wins.

Beside the state lies `data`: the loader's position and a fingerprint of every array. Orbax makes
a checkpoint visible only when all of it is on disk; the fingerprint tells damage that came later.
With several hosts, host 0 says which steps there are, and all must have read their part.
"""

import errno
import json
import logging
import shutil
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from echofm_jax.distributed import agree, gather
from echofm_jax.errors import InputError, TryAgain

policies = ocp.checkpoint_managers
log = logging.getLogger(__name__)
MARGIN = 50e6  # bytes, for everything that is not an array
SEEN = 50  # of the newest checkpoints, looked at for a whole one


class Checkpoints:
    """The checkpoints of one workdir: `restore` once, then `save` every step."""

    def __init__(self, workdir: Path, *, every: int, keep: int):
        self.folder = (workdir / "checkpoints").absolute()
        self.began: float | None = None  # the last save
        quiet_background()
        self.manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                save_decision_policy=policies.FixedIntervalPolicy(every),
                preservation_policy=policies.LatestN(keep),
            ),
        )

    def save(self, step: int, state: dict, position: dict, *, force: bool = False) -> bool:
        """Save if the policy (or `force`) says so; returns whether it did. Once a step."""
        if not self.manager.should_save(step) and not force:
            return False
        self._ask_for_room(state)
        data = {"position": position, "fingerprint": fingerprint(state)}
        self.began = time.monotonic()
        with reported(self.folder):
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data)
                ),
                force=True,
            )
        return True

    def _ask_for_room(self, state: dict) -> None:
        """A save that cannot fit is not begun."""
        needed = sum(x.nbytes for x in jax.tree.leaves(state))
        free = shutil.disk_usage(self.folder).free
        if free < 2 * needed + MARGIN:  # parts are written, then merged
            raise no_room(self.folder, f"{free / 1e9:.2g} GB are free, {needed / 1e9:.2g} needed")

    def restore(self, abstract: dict) -> tuple[dict, dict] | None:
        """The newest whole checkpoint as (state placed as `abstract` says, loader position).

        A damaged one is named, set aside as `damaged-STEP`, and the one before is tried; None if
        there is none at all.

        Raises:
          InputError: there are some, and not one can be read: the storage may be at fault, so
            nothing is set aside and no run starts afresh over them.
        """
        damaged = []
        for step in self._steps():
            state, data, problem = self._read(step, abstract)
            problem = agree(problem)
            # A fingerprint is computed by all devices together, so only when all hosts have read.
            if not problem and fingerprint(state) != data["fingerprint"]:
                problem = "its arrays are not those that were saved"
            if not problem:
                for number, reason in damaged:
                    self._set_aside(number, reason)
                return state, data["position"]
            del state  # or the next one needs its memory beside it
            damaged.append((step, problem))
        if damaged:
            raise InputError(
                f"no checkpoint in {self.folder} can be read (step {damaged[0][0]}: "
                f"{damaged[0][1]}): look at the storage, or move the folder away to start afresh"
            )
        return None

    def _steps(self) -> list[int]:
        """The steps that host 0 sees, newest first: a network file system may show each its own."""
        newest = sorted(self.manager.all_steps(), reverse=True)[:SEEN]
        return json.loads(gather(json.dumps(newest))[0])

    def _read(self, step: int, abstract: dict) -> tuple[dict, dict, str]:
        """This host's part of a checkpoint, or why it cannot be read.

        Without the manager: its `restore` waits for all hosts, also for one that failed.
        """
        folder = epath.Path(self.folder) / str(step)
        try:
            state = ocp.StandardCheckpointHandler().restore(
                folder / "state", args=ocp.args.StandardRestore(abstract)
            )
            data = ocp.JsonCheckpointHandler().restore(folder / "data")
            return state, {"position": data["position"], "fingerprint": data["fingerprint"]}, ""
        except Exception as error:  # whatever a damaged file makes a reader raise
            return {}, {}, " ".join(str(error).split())[:200] or type(error).__name__

    def _set_aside(self, step: int, reason: str) -> None:
        if jax.process_index() == 0:
            damaged = self.folder / f"damaged-{step}"
            while damaged.exists():
                damaged = damaged.with_name(damaged.name + "-again")
            (self.folder / str(step)).rename(damaged)
            log.warning("checkpoint %d is damaged (%s): kept as %s", step, reason, damaged.name)
        gather("")  # it is gone for all
        self.manager.reload()

    def finish(self) -> None:
        """Wait until every save is on disk."""
        with reported(self.folder):
            self.manager.wait_until_finished()
            self.manager.close()
        if self.began is not None:
            log.info("the last save took %.1f s", time.monotonic() - self.began)


def quiet_background() -> None:
    """A failed save is raised again by the next call; its threads need not print it as well."""
    own = ("lifeline", "watchdog", "timeline")

    def say(arguments) -> None:
        if arguments.thread is not None and arguments.thread.name in own:
            threading.__excepthook__(arguments)

    threading.excepthook = say
    for name in ("asyncio", "absl", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class reported:
    """Turns trouble with the disk into one line: a full one is the user's, the rest may pass."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind, error, trace) -> None:
        full = ("No space left", "Disk quota", "File too large", "RESOURCE_EXHAUSTED")
        codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if error and (getattr(error, "errno", 0) in codes or any(f in str(error) for f in full)):
            raise no_room(self.folder, "the disk is full") from error
        if isinstance(error, OSError):  # a bucket that did not answer, a mount that was lost
            raise TryAgain(
                f"{self.folder}: saving failed ({error.strerror or error}): start the same "
                "command again; every earlier checkpoint is whole"
            ) from error


def no_room(folder: Path, why: str) -> InputError:
    """The error of a full disk."""
    return InputError(
        f"no room for a checkpoint: {folder}: {why}; free some space and run the same command "
        "again; every earlier checkpoint is whole"
    )


def fingerprint(state: dict) -> dict[str, int]:
    """{path of an array: sum of its words modulo 2³²}, the same on any mesh."""
    sums = jax.device_get(_sums(state))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): int(value)
        for path, value in jax.tree.leaves_with_path(sums)
    }


@jax.jit
def _sums(state: dict) -> dict:
    unsigned = {2: jnp.uint16, 4: jnp.uint32}

    def one(x: jax.Array) -> jax.Array:
        words = jax.lax.bitcast_convert_type(x, unsigned[x.dtype.itemsize])
        return words.astype(jnp.uint32).sum(dtype=jnp.uint32)

    return jax.tree.map(one, state)


def load_params(workdir: Path | str, step: int | None = None) -> tuple[dict, int]:
    """Parameters of a workdir's newest whole checkpoint (or of `step`) as numpy, and the step.

    Where the run keeps their moving average, it is the average that is read; of DINOv2 the teacher.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    steps = ocp.path.step.checkpoint_steps(folder) if folder.is_dir() else []
    if step is not None and step not in steps:
        raise InputError(f"no checkpoint of step {step} in {folder}: there are {sorted(steps)}")
    for candidate in sorted(steps, reverse=True) if step is None else [step]:
        try:
            return _read_params(folder, candidate), candidate
        except Exception as error:  # whatever a damaged file makes a reader raise
            reason = " ".join(str(error).split())[:200]
            log.warning("checkpoint %d is damaged (%s)", candidate, reason)
    raise InputError(f"no whole checkpoint in {folder}: train first, or import weights")


def _read_params(folder: Path, step: int) -> dict:
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "data": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(folder, item_handlers=handlers) as manager:
        tree = manager.item_metadata(step)["state"].tree
        own = tree.get("own", {})
        if "teacher" in own:
            wanted = {"own": {"teacher": own["teacher"]}}
        else:
            name = "ema" if "ema" in tree else "params"
            wanted = {name: tree[name]}
        as_numpy = jax.tree.map(lambda x: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        state = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        found = manager.restore(
            step, args=ocp.args.Composite(state=state, data=ocp.args.JsonRestore())
        )
    expected = found["data"]["fingerprint"]
    for path, value in fingerprint(found["state"]).items():
        if expected[path] != value:
            raise ValueError(f"{path} is not what was saved")
    (state,) = found["state"].values()
    return state["teacher"] if "own" in wanted else state
