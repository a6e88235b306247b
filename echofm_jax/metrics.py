"""What a run says: one line of JSON per logged step, TensorBoard events, a progress line."""

import json
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

SHOWN = (  # those that the objective has
    "loss", "recon", "triplet", "cycle", "dino_global", "dino_local", "ibot", "koleo", "grad_norm",
)  # fmt: skip


class MetricWriter:
    """`metrics.jsonl` and TensorBoard events of a workdir; steps after `start` are rewritten."""

    def __init__(self, workdir: Path, start: int):
        # It imports PyTorch where there is one: seconds that only the host which writes needs.
        from tensorboardX import SummaryWriter

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
        text = ", ".join(f"{name} {values[name]:.4g}" for name in SHOWN if name in values)
        text += (
            f", {values['clips_per_s']:.3g} clips/s, {values['clips_per_s_per_chip']:.3g} a chip"
        )
        text += f", MFU {values['mfu']:.1%}, goodput {values['goodput']:.1%}"
        if "hbm_gb" in values:
            text += f", HBM {values['hbm_gb']:.3g} GB, at most {values['hbm_peak_gb']:.3g}"
        if values["skipped"]:
            text += f", {values['skipped']:.0f} skipped"
        if values["bad_records"]:
            text += f", {values['bad_records']:.0f} bad records"
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
