"""`--profile=START:STOP`: a trace of those steps, for `tensorboard --logdir=WORKDIR` (XProf)."""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import jax

from echofm_jax.errors import InputError
from echofm_jax.timeline import Timeline

log = logging.getLogger(__name__)


def parse_window(text: str) -> range:
    """`START:STOP` → the steps from START to STOP, both included; steps count from 1."""
    numbers = re.fullmatch(r"(\d+):(\d+)", text)
    start, stop = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= start <= stop:
        raise InputError(
            f"--profile={text} is no window: give START:STOP, two steps counted from 1, such as "
            "--profile=20:25"
        )
    return range(start, stop + 1)


def refuse_window(window: range, steps: int) -> None:
    """A window must lie within the run's steps."""
    if window and window[-1] > steps:
        raise InputError(
            f"--profile={window[0]}:{window[-1]}: the run has {steps} steps: choose earlier ones"
        )


class Profiler:
    """Traces the steps of a window, and names every step in whatever trace is taken.

    The trace is written beside the TensorBoard events. A run that resumes inside the window traces
    the rest of it; one that resumes behind it has nothing to trace, so that the same command can
    be started again and again.
    """

    def __init__(self, window: range, workdir: Path, timeline: Timeline):
        self.window, self.folder, self.timeline = window, workdir / "tensorboard", timeline
        self.tracing = False

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around the start of step `number`."""
        if self.tracing and number not in self.window:
            self._stop()
        if not self.tracing and number in self.window:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every Python call: slow, and larger than the rest
            jax.profiler.start_trace(self.folder, profiler_options=options)
            self.tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def _stop(self) -> None:
        self.timeline.drain()  # the devices are behind: their last steps belong to the trace
        with self.timeline.time("profile"):
            jax.profiler.stop_trace()
        self.tracing = False
        log.info("trace written: tensorboard --logdir=%s", self.folder.parent)

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_) -> None:
        if self.tracing:
            self._stop()
