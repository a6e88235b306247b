"""Where one process's time goes: every moment of a run lies in exactly one bucket.

The loop runs ahead of the devices, so what the host does says little about what it costs. Time in
which the devices have a step to work on is `step`, whatever the host does meanwhile; only while
they have none does it belong to what the host is doing. A loader that keeps up costs nothing.
"""

import collections
import contextlib
import queue
import statistics
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax

BUCKETS = (
    "init", "compile", "data_wait", "step", "evaluation", "checkpoint", "profile", "other",
)  # fmt: skip
STEPPING = ("data_wait", "step", "other")  # what a step may be held up by; the rest has its reasons
MEDIAN_OF = 100  # steps


class Progress(NamedTuple):
    """How the steps are coming along."""

    completed: int  # steps that the devices have finished
    waited: float  # seconds since the last of them, without saving, evaluating and the like
    median: float | None  # seconds a step, of the last 100; None before there are three
    doing: str  # the bucket of this moment


class Timeline:
    """Seconds by bucket. `time` says what the host does, `running` what the devices work on."""

    def __init__(self, began: float | None = None):
        """`began`, on the monotonic clock, is when the run did; now by default."""
        self.began = time.monotonic() if began is None else began
        self.completed = 0
        self._lock = threading.Lock()
        self._until = self.began  # everything before is in a bucket
        self._seconds = dict.fromkeys(BUCKETS, 0.0)
        self._host: str | None = None  # what the host does, where it says so
        self._unnamed = "init"  # and where it does not
        self._waited, self._recent = 0.0, collections.deque(maxlen=MEDIAN_OF)
        self._in_flight = 0
        self._idle = threading.Condition(self._lock)
        self._outputs: queue.SimpleQueue[jax.Array | None] = queue.SimpleQueue()
        self._watcher: threading.Thread | None = None

    @contextlib.contextmanager
    def time(self, bucket: str) -> Iterator[None]:
        """The host is at `bucket` until the block ends."""
        with self._lock:
            self._account()
            before, self._host = self._host, bucket
        try:
            yield
        finally:
            with self._lock:
                self._account()
                self._host = before

    def running(self, output: jax.Array) -> None:
        """A step has been started: the devices are at it until `output` is there.

        With the first one `init` is over; what the host does unnamed is `other` from then on.
        """
        with self._lock:
            self._account()
            self._in_flight += 1
            self._unnamed = "other"
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="timeline", daemon=True)
            self._watcher.start()
        self._outputs.put(output)

    def drain(self) -> None:
        """Wait until the devices have finished every step."""
        with self._idle:
            self._idle.wait_for(lambda: self._in_flight == 0)

    def seconds(self) -> dict[str, float]:
        """Seconds by bucket until now; they sum to the time since `began`."""
        with self._lock:
            self._account()
            return dict(self._seconds)

    def move(self, seconds: float, source: str, target: str) -> float:
        """Seconds of one bucket turned out to be another's; returns those that there were."""
        with self._lock:
            seconds = min(seconds, self._seconds[source])
            self._seconds[source] -= seconds
            self._seconds[target] += seconds
        return seconds

    def progress(self) -> Progress:
        """How the steps are coming along at this moment."""
        with self._lock:
            self._account()
            median = statistics.median(self._recent) if len(self._recent) > 2 else None
            return Progress(self.completed, self._waited, median, self._bucket())

    def stop_watching(self) -> None:
        """End the thread that watches the devices."""
        self._outputs.put(None)

    def _bucket(self) -> str:
        return "step" if self._in_flight else self._host or self._unnamed

    def _account(self) -> None:
        """Give the time since the last change to what went on in it."""
        now = time.monotonic()
        bucket, passed = self._bucket(), now - self._until
        self._seconds[bucket] += passed
        self._until = now
        if bucket in STEPPING:
            self._waited += passed

    def _watch(self) -> None:
        """Note when each step ends. Waiting for it costs the loop nothing in another thread."""
        while (output := self._outputs.get()) is not None:
            with contextlib.suppress(Exception):  # the loop reads the same array and raises it
                output.block_until_ready()
            with self._idle:
                self._account()
                self._in_flight -= 1
                self.completed += 1
                self._recent.append(self._waited)
                self._waited = 0.0
                self._idle.notify_all()
