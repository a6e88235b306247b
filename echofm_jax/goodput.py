"""Goodput: the share of wall time in which the devices made steps that were kept.

`goodput.json` in the workdir has one row a run: when it began, its first and last step, and its
seconds by bucket so far. The row is replaced as a whole at every logged step, so `kill -9` loses
what came after the last one and counts nothing twice. Over several runs two more buckets appear:

- `repeated`: steps that a later run had to make again, because no checkpoint held them;
- `down`: from the last row that a run wrote to the beginning of the next one.

All buckets sum to the time from the first run's beginning to the last one's latest row. Loading the
interpreter and ending it, about a second, is `down` between two runs and otherwise not counted.
Time after a run that had reached its last step is nobody's loss and left out.
"""

import datetime
import itertools
import json
import logging
import math
import time
from pathlib import Path

from echofm_jax.atomic import write_text
from echofm_jax.timeline import Timeline

log = logging.getLogger(__name__)


class Goodput(Timeline):
    """A timeline that is kept in the workdir, over restarts.

    `time` and `running` from the beginning; `open` once the workdir is known; the end of the
    block says where the time went.
    """

    def __init__(self, began: float | None = None):
        super().__init__(began)
        self.path: Path | None = None
        self.finished = False  # the run made its last step
        self.earlier: list[dict] = []
        self.row: dict | None = None

    def open(self, workdir: Path, start: int, *, write: bool = True) -> None:
        """This run begins after step `start`; one process of several should `write`."""
        path = workdir / "goodput.json"
        self.earlier = read_runs(path)
        began = time.time() - (time.monotonic() - self.began)
        self.row = {"began": began, "start": start}
        self.path = path if write else None
        self.save()

    def save(self) -> None:
        """Bring this run's row up to now."""
        self.row |= {
            "step": self.row["start"] + self.completed,
            "finished": self.finished,
            "seconds": self.seconds(),
            "cpu": time.process_time(),  # seconds of all cores, of this process
        }
        if self.path is not None:
            write_runs(self.path, [*self.earlier, self.row])

    def finished_before(self, workdir: Path, step: int) -> None:
        """Set the last row right: its run was killed after its last save, before it said so."""
        path = workdir / "goodput.json"
        runs = read_runs(path)
        if runs and not runs[-1]["finished"]:
            write_runs(path, [*runs[:-1], runs[-1] | {"step": step, "finished": True}])

    def overall(self) -> dict[str, float]:
        """Seconds by bucket over all runs of the workdir, as of the last `save`."""
        return overall([*self.earlier, self.row])

    def __enter__(self) -> "Goodput":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None:
            self.drain()
        self.stop_watching()
        if self.row is None:
            return
        self.save()
        if self.path is not None:
            log.info("%s", describe(self.row["seconds"]))
            if self.earlier:
                log.info("all %d runs: %s", len(self.earlier) + 1, describe(self.overall()))


def read_runs(path: Path) -> list[dict]:
    """The rows of a `goodput.json`; none where there is none."""
    try:
        rows = json.loads(path.read_text())
        overall(rows)
        return rows
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("%s is damaged: goodput counts from this run on", path)
        return []


def write_runs(path: Path, rows: list[dict]) -> None:
    """Replace a `goodput.json` as a whole."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    try:
        write_text(path, f"[{lines}]\n")
    except OSError as error:  # no reason to end a run
        log.warning("%s cannot be written: %s", path, error.strerror or error)


def overall(runs: list[dict]) -> dict[str, float]:
    """Seconds by bucket over runs in their order.

    Steps of one run are taken as equally long, to tell what of its `step` time was repeated.
    """
    total: dict[str, float] = {}

    def add(bucket: str, seconds: float) -> None:
        total[bucket] = total.get(bucket, 0.0) + seconds

    kept = math.inf  # what was made after this step was made again
    for run in reversed(runs):
        made = run["step"] - run["start"]
        again = max(0, run["step"] - max(run["start"], kept)) / made if made else 0.0
        for bucket, seconds in run["seconds"].items():
            add(bucket, seconds * (1 - again) if bucket == "step" else seconds)
        add("repeated", again * run["seconds"]["step"])
        kept = min(kept, run["start"])
    for before, after in itertools.pairwise(runs):
        if not before["finished"]:
            ended = before["began"] + sum(before["seconds"].values())
            add("down", max(0.0, after["began"] - ended))
    return total


def fraction(seconds: dict[str, float]) -> float:
    """Goodput of seconds by bucket, in [0, 1]."""
    return seconds["step"] / max(sum(seconds.values()), 1e-9)


def describe(seconds: dict[str, float]) -> str:
    """One line: goodput, wall time, and what the rest of it went into, the largest first."""
    wall = sum(seconds.values())
    lost = sorted(((s, bucket) for bucket, s in seconds.items() if bucket != "step"), reverse=True)
    parts = [f"{name.replace('_', ' ')} {s / wall:.1%}" for s, name in lost if s >= 0.0005 * wall]
    span = datetime.timedelta(seconds=round(wall))
    return f"goodput {fraction(seconds):.1%} of {span}; {', '.join(parts)}"
