"""Says where every thread is when a step does not come: a hung collective, disk or loader."""

import sys
import threading
import time
import traceback

from echofm_jax.timeline import Progress, Timeline

FLOOR = 30.0  # seconds; what is shorter is a hiccup, however short the steps are
PATIENCE = 600.0  # seconds for the first three steps, before there is a median
TICK = 0.25  # seconds


class Watchdog:
    """Dumps all stacks to standard error when a step takes `factor` × the median; 0: never.

    Once a stall, with how long it took when it is over. Compiling, saving and evaluating are not
    steps. `paused` counts the seconds in which this process was not allowed to run (stopped,
    migrated, starved): nobody's stack explains those.
    """

    def __init__(self, timeline: Timeline, factor: float, host: int = 0):
        self.timeline, self.factor, self.host = timeline, factor, host
        self.paused = 0.0
        self._paused_in_step, self._step, self._stalled = 0.0, 0, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        """Start watching."""
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before, used = time.monotonic(), time.process_time()
        while not self._stop.wait(TICK):
            progress = self.timeline.progress()  # before the clock: no pause in it is overlooked
            now, cpu = time.monotonic(), time.process_time()
            # Late although the process did nothing: it is not a thread that held the interpreter.
            late = now - before - TICK - (cpu - used)
            before, used = now, cpu
            if late > TICK:
                self.paused += late
                self._paused_in_step += late
            self._look(progress)

    def _look(self, now: Progress) -> None:
        if now.completed != self._step:
            if self._stalled:
                self._say(f"steps go on after {self._stalled:.3g} s")
            self._step, self._stalled, self._paused_in_step = now.completed, 0.0, 0.0
        waited = now.waited - self._paused_in_step
        limit = PATIENCE if now.median is None else max(FLOOR, self.factor * now.median)
        if not self.factor or waited <= limit:
            return
        if not self._stalled:
            usual = "" if now.median is None else f", usually {now.median:.3g} s"
            doing = now.doing.replace("_", " ")
            self._say(f"no step for {waited:.3g} s{usual}; in: {doing}\n{all_stacks()}")
        self._stalled = waited

    def _say(self, text: str) -> None:
        print(f"watchdog, host {self.host}: {text}", file=sys.stderr, flush=True)


def all_stacks() -> str:
    """Every other thread of this process: its name and where it is, the most recent call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    )
