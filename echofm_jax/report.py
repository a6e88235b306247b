"""What the loop tells of its steps, one window late, so that no step waits for a fetch."""

import collections
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from echofm_jax import perf
from echofm_jax.goodput import Goodput, fraction
from echofm_jax.hosts import KINDS, Alone, Hosts
from echofm_jax.metrics import MetricWriter, Progress
from echofm_jax.timeline import STEPPING
from echofm_jax.watchdog import Watchdog

log = logging.getLogger(__name__)
ALONE_EVERY = 50  # windows between two measurements of a host alone: the devices idle for each


class Window(NamedTuple):
    """The steps since the last logged one, as this host saw them."""

    steps: int
    wall: float  # seconds
    seconds: dict[str, float]  # of this host, by `hosts.KINDS`
    bad_records: int  # that this host met since the run began
    everybody: jax.Array | None  # [hosts, kinds + 1] both of all hosts, once the devices are there


class Report:
    """Metrics, pace, utilisation and goodput of a run, at every `train.log_every`-th step.

    Of several processes the first one writes; all of them take part in comparing the hosts.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        start: int,
        steps: int,
        schedule: Callable[[int], float],
        flops: float,
        most_bad: Callable[[int], float],
        goodput: Goodput,
        watchdog: Watchdog,
    ):
        """`most_bad`(steps): how many bad records all hosts may have met in so many steps."""
        self.every, self.batch_size = config.train.log_every, config.data.batch_size
        self.limit, self.schedule, self.flops = config.train.max_bad_steps, schedule, flops
        self.most_bad, self.goodput, self.watchdog = most_bad, goodput, watchdog
        self.peak, source = perf.peak_flops()
        self.writer = self.progress = self.hosts = None
        if jax.process_index() == 0:
            log.info("MFU against %.3g TFLOP/s (%s)", self.peak / 1e12, source)
            self.writer, self.progress = MetricWriter(workdir, start), Progress(start, steps)
        if jax.process_count() > 1:
            self.hosts, self.alone = Hosts(), Alone()
        self.start, self.steps, self.since, self.counted = start, steps, self._stepping(), start
        self.windows, self.logged, self.seen = 0, start, self._so_far() | {"alone_s": 0.0}
        self.pending: tuple[int, dict, Window] | None = None
        self.ahead: collections.deque[jax.Array] = collections.deque()
        self.pace = 0.0
        self.given_up = ""
        goodput.save()  # a kill before the first logged step does not lose the compilation

    def log(self, step: int, metrics: dict, bad_records: int = 0) -> None:
        """Take a step's metrics and the bad records so far; write those of the window before.

        The host is held to two steps ahead of the devices, so that its clock tells their pace.
        """
        self.ahead.append(metrics["loss"])
        if len(self.ahead) > 2:
            self.ahead.popleft().block_until_ready()
        if step % self.every and step != self.steps:
            return
        self._flush(step)
        self.pending = (step, metrics, self._window(step, bad_records))

    def held_out(self, step: int, values: dict[str, float]) -> None:
        """Write what `Validation.measure` found after a step."""
        if self.writer is not None:
            self.writer.write(step, values)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            log.info("held-out clips at step %d: %s", step, shown)

    def _stepping(self) -> float:
        """Seconds that went into steps or into waiting for their data; saving and such has its own.

        So one look at held-out clips does not read as slow steps: it is what `goodput` is for.
        """
        seconds = self.goodput.seconds()
        return sum(seconds[bucket] for bucket in STEPPING)

    def _so_far(self) -> dict[str, float]:
        """This host's seconds by `hosts.KINDS`, since the run began."""
        seconds = self.goodput.seconds()
        return {
            "paused_s": self.watchdog.paused,
            "data_wait_s": seconds["data_wait"],
            "host_s": seconds["other"],
            "step_s": seconds["step"],
            "wall": sum(seconds.values()),
        }

    def _window(self, step: int, bad_records: int) -> Window:
        """Close the window that ends with `step`."""
        now = self._so_far()
        passed = {kind: now[kind] - self.seen[kind] for kind in now}
        passed["alone_s"], everybody = self.seen["alone_s"], None
        if self.hosts is not None:
            if self.windows % ALONE_EVERY == 0:
                self.goodput.drain()
                passed["alone_s"] = self.alone.seconds()
            row = np.array([*(passed[kind] for kind in KINDS), bad_records], np.float32)
            everybody = self.hosts.gather(row)
        wall, steps = passed.pop("wall"), step - self.logged
        self.windows, self.logged = self.windows + 1, step
        self.seen = now | {"alone_s": passed["alone_s"]}
        return Window(steps, wall, passed, bad_records, everybody)

    def _flush(self, now_at: int) -> None:
        """Write the pending metrics; `now_at` is the last step that was started."""
        if self.pending is None:
            return
        step, metrics, window = self.pending
        self.pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        now = self._stepping()
        if now_at > self.counted:
            self.pace = (now_at - self.counted) / (now - self.since)  # steps per second
        self.counted, self.since = now_at, now
        values |= {
            "lr": float(self.schedule(step - 1)),
            "clips_per_s": self.pace * self.batch_size,
            "clips_per_s_per_chip": self.pace * self.batch_size / jax.device_count(),
            "mfu": self.pace * self.flops / self.peak,
            "step_s": window.seconds["step_s"] / window.steps,
            "data_wait_s": window.seconds["data_wait_s"] / window.steps,
        }
        values |= self._compare(window) | device_memory(jax.local_devices())
        self.goodput.save()
        values["goodput"] = fraction(self.goodput.overall())
        if self.writer is not None:
            self.writer.write(step, values)
            self.progress.update(step, values)
        if values["bad_records"] > self.most_bad(step - self.start):
            self.given_up = (
                f"{values['bad_records']:.0f} records could not be read up to step {step}, on all "
                "hosts, more than data.max_bad_records allows: look at the shards named above, "
                "ingest their sources again, or raise it"
            )
        if values["bad_in_a_row"] >= self.limit:
            self.given_up = (
                f"training diverged: {values['bad_in_a_row']:.0f} steps in a row were not finite, "
                f"up to step {step}: the checkpoints hold the last good parameters; lower "
                "optim.blr or look at the data, then run again"
            )

    def _compare(self, window: Window) -> dict[str, float]:
        """What all hosts did in a window; of one host only its bad records."""
        if window.everybody is None:
            return {"bad_records": window.bad_records}
        told = np.asarray(window.everybody)
        table, bad_records = told[:, :-1], float(told[:, -1].sum())
        # Here the devices waited inside a collective for the host that had no data.
        longest = float(table[:, list(KINDS).index("data_wait_s")].max())
        others = max(0.0, longest - window.seconds["data_wait_s"])
        moved = self.goodput.move(others, "step", "data_wait")
        self.seen["step_s"] -= moved  # so that the next window does not see it
        self.seen["data_wait_s"] += moved
        return self.hosts.report(table, window.wall) | {"bad_records": bad_records}

    def __enter__(self) -> "Report":
        """Close when the loop ends, however it ends."""
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.pending is not None and error is None:
            self._flush(self.pending[0])
        if self.writer is not None:
            self.writer.close()
            self.progress.close()


def device_memory(devices: Sequence[jax.Device]) -> dict[str, float]:
    """GB in use now and at most, on the fullest of the devices; nothing where they do not tell."""
    told = [stats for device in devices if (stats := device.memory_stats())]
    names = {"hbm_gb": "bytes_in_use", "hbm_peak_gb": "peak_bytes_in_use"}
    if not told or any(key not in stats for stats in told for key in names.values()):
        return {}
    return {name: max(stats[key] for stats in told) / 1e9 for name, key in names.items()}
