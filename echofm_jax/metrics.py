"""What a run says: one line of JSON per logged step, TensorBoard events, a progress line."""

import collections
import json
import logging
import os
import sys
import time
from pathlib import Path

import jax
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter
from tqdm import tqdm

from echofm_jax import perf

log = logging.getLogger(__name__)
SHOWN = ("loss", "recon", "triplet", "cycle", "grad_norm")


class MetricWriter:
    """`metrics.jsonl` and TensorBoard events of a workdir; steps after `start` are rewritten."""

    def __init__(self, workdir: Path, start: int):
        self.path = workdir / "metrics.jsonl"
        forget_after(self.path, start)
        self.file = self.path.open("a")
        self.events = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one step's values."""
        self.file.write(json.dumps({"step": step} | values) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush both."""
        self.file.close()
        self.events.close()


def read_metrics(path: Path) -> list[dict]:
    """The lines of a `metrics.jsonl`; a line cut short by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def forget_after(path: Path, step: int) -> None:
    """Drop the lines of later steps: a run resumed from `step` will write them again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    temporary.replace(path)


class Progress:
    """A bar on a terminal, a line per update elsewhere; both on standard error."""

    def __init__(self, start: int, total: int):
        self.start, self.total, self.began = start, total, time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            layout = "{percentage:3.0f}%|{bar:20}| {n}/{total} [{elapsed}<{remaining}{postfix}]"
            self.bar = tqdm(initial=start, total=total, bar_format=layout)

    def update(self, step: int, values: dict[str, float]) -> None:
        """Show a step's values."""
        text = ", ".join(f"{name} {values[name]:.4g}" for name in SHOWN)
        text += f", {values['clips_per_s']:.3g} clips/s, MFU {values['mfu']:.1%}"
        if values["skipped"]:
            text += f", {values['skipped']:.0f} skipped"
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(step - self.bar.n)
            return
        pace = (time.monotonic() - self.began) / max(step - self.start, 1)
        left = tqdm.format_interval(pace * (self.total - step))
        print(f"step {step}/{self.total}, ETA {left}, {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar's line."""
        if self.bar is not None:
            self.bar.close()


class Report:
    """Turns device metrics into log lines one window late, so that no step waits for a fetch."""

    def __init__(
        self, config: ConfigDict, workdir: Path, start: int, steps: int, schedule, flops: float
    ):
        self.every, self.batch_size = config.train.log_every, config.data.batch_size
        self.limit, self.schedule, self.flops = config.train.max_bad_steps, schedule, flops
        self.peak, source = perf.peak_flops()
        log.info("MFU against %.3g TFLOP/s (%s)", self.peak / 1e12, source)
        self.writer, self.progress = MetricWriter(workdir, start), Progress(start, steps)
        self.steps, self.since, self.counted = steps, time.monotonic(), start
        self.pending: tuple[int, dict, float] | None = None
        self.ahead: collections.deque[jax.Array] = collections.deque()
        self.pace = 0.0
        self.diverged = ""

    def log(self, step: int, metrics: dict) -> None:
        """Take a step's metrics; write those of the window before.

        The host is held to two steps ahead of the devices, so that its clock tells their pace.
        """
        self.ahead.append(metrics["loss"])
        if len(self.ahead) > 2:
            self.ahead.popleft().block_until_ready()
        if step % self.every and step != self.steps:
            return
        self._flush(step)
        self.pending = (step, metrics)

    def _flush(self, now_at: int) -> None:
        """Write the pending metrics; `now_at` is the last step that was started."""
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        now = time.monotonic()
        if now_at > self.counted:
            self.pace = (now_at - self.counted) / (now - self.since)  # steps per second
        self.counted, self.since = now_at, now
        values |= {
            "lr": float(self.schedule(step - 1)),
            "clips_per_s": self.pace * self.batch_size,
            "mfu": self.pace * self.flops / self.peak,
        }
        self.writer.write(step, values)
        self.progress.update(step, values)
        if values["bad_in_a_row"] >= self.limit:
            self.diverged = (
                f"training diverged: {values['bad_in_a_row']:.0f} steps in a row were not finite, "
                f"up to step {step}: the checkpoints hold the last good parameters; lower "
                "optim.blr or look at the data, then run again"
            )

    def __enter__(self) -> "Report":
        """Close when the loop ends, however it ends."""
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.pending is not None and error is None:
            self._flush(self.pending[0])
        self.writer.close()
        self.progress.close()
