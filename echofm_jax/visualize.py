"""Figures of a run: reconstruction, similarity maps with their lag curves, loss curves.

Arrays and a path in, one PNG out. A figure carries no name, id or path of what it shows, and says
so where the heart in it is simulated.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from echofm_jax import phase

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#1f6fb2", "#d9661f", "#8a8a8a"

# metrics.jsonl key: (title, axis label, logarithmic)
CURVES = {
    "loss": ("Total loss", "loss", False),
    "recon": ("Reconstruction", "mean squared error", False),
    "triplet": ("Periodic contrast", "triplet loss", False),
    "cycle": ("Cycle distillation", "KL divergence (nats)", False),
    "grad_norm": ("Gradient norm", "norm before clipping", True),
    "lr": ("Learning rate", "lr", False),
}


def reconstruction(
    path: pathlib.Path,
    original: np.ndarray,
    masked: np.ndarray,
    reconstructed: np.ndarray,
    seconds: np.ndarray | None,
    simulated: bool = False,
) -> None:
    """Three rows of frames: what the camera saw, what the model saw, what it made of that.

    Args:
      path: PNG to write.
      original: [n, H, W] grey frames in [0, 1].
      masked: the same, with nan where a patch was hidden.
      reconstructed: the same, hidden patches predicted.
      seconds: [n] time of each frame; None where the frame rate is not known.
      simulated: the clip comes from the phantom.
    """
    n = len(original)
    figure = _figure(1.25 * n + 0.9, 4.6)
    axes = figure.subplots(3, n, squeeze=False)
    rows = (("original", original), ("masked", masked), ("reconstructed", reconstructed))
    for row, (name, frames) in zip(axes, rows, strict=True):
        row[0].set_ylabel(name, fontsize=11)
        for axis, frame in zip(row, frames, strict=True):
            axis.set_facecolor("#c9d3dc")
            axis.imshow(np.ma.masked_invalid(frame), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    if seconds is not None:
        for axis, time in zip(axes[0], seconds, strict=True):
            axis.set_title(f"{time:.2f} s", fontsize=10)
    hidden = np.isnan(masked).mean()
    _title(figure, f"Reconstruction with {hidden:.0%} of the patches hidden", simulated)
    _save(figure, path)


def similarity_maps(
    path: pathlib.Path,
    embedding: np.ndarray,
    prior: np.ndarray,
    seconds_per_step: float,
    beats: np.ndarray | None = None,
    simulated: bool = False,
) -> None:
    """Self-similarity of the embeddings and of the pixels, and both lag curves.

    Args:
      path: PNG to write.
      embedding: [t, t] `phase.similarity` of the frame embeddings.
      prior: [t, t] the same of the pixels.
      seconds_per_step: between consecutive rows; nan where the frame rate is not known.
      beats: [t] `phase.step_beat_time`, to mark each end-diastole; None where it is not known.
      simulated: the clip comes from the phantom.
    """
    figure = _figure(12.5, 4.2)
    maps = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1, 1.15]})
    step, unit = (seconds_per_step, "s") if np.isfinite(seconds_per_step) else (1.0, "steps")
    span = len(embedding) * step
    named = (("Frame embeddings", embedding, BLUE), ("Pixels (prior)", prior, ORANGE))
    for axis, (name, S, _) in zip(maps, named, strict=False):
        image = axis.imshow(
            S, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0, span, span, 0), interpolation="nearest"
        )
        axis.set(title=name, xlabel=f"time ({unit})", ylabel=f"time ({unit})")
        for time in _end_diastoles(beats) * step:
            axis.axvline(time, color="black", lw=0.8, ls=":")
            axis.axhline(time, color="black", lw=0.8, ls=":")
    bar = figure.colorbar(image, ax=maps[:2], shrink=0.85, pad=0.015)
    bar.set_label("cosine similarity")

    lags = maps[2]
    for name, S, colour in named:
        curve = phase.lag_curve(S)
        cycle = phase.cycle_length(S, seconds_per_step)
        label = name if np.isnan(cycle) else f"{name}: {cycle:.2f} s, {60 / cycle:.0f} bpm"
        lags.plot(np.arange(len(curve)) * step, curve, color=colour, label=label)
        if not np.isnan(cycle):
            lags.axvline(cycle, color=colour, lw=0.9, ls="--")
    lags.axhline(0, color=GREY, lw=0.6)
    lags.set(title="Lag curve", xlabel=f"lag ({unit})", ylabel="mean cosine similarity")
    lags.set(xlim=(0, None), ylim=(None, 1.3))  # room for the legend
    lags.legend(edgecolor="none", framealpha=0.9, fontsize=9, loc="upper right")
    marked = " (dotted: end-diastole)" if len(_end_diastoles(beats)) else ""
    _title(figure, f"Which moments look alike{marked}", simulated)
    _save(figure, path)


def loss_curves(path: pathlib.Path, records: Sequence[Mapping[str, float]]) -> None:
    """One panel for each training figure that the lines of `metrics.jsonl` hold, over the steps.

    With it goes what held-out clips gave. Steps logged twice (a run that was killed and resumed)
    count once, as they were last logged.
    """
    by_step = {record["step"]: record for record in records if "loss" in record}
    held_out = {record["step"]: record for record in records if "val/loss" in record}
    steps = sorted(by_step)
    names = [name for name in CURVES if any(name in by_step[step] for step in steps)]
    columns = min(3, max(1, len(names)))
    figure = _figure(4.0 * columns, 2.7 * -(-len(names) // columns) + 0.4)
    axes = figure.subplots(-(-len(names) // columns), columns, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        title, label, logarithmic = CURVES[name]
        logged = [step for step in steps if by_step[step].get(name) is not None]
        axis.plot(logged, [by_step[step][name] for step in logged], color=BLUE, lw=1.3)
        axis.set(title=title, xlabel="step", ylabel=label)
        seen = [
            (s, row[key]) for s, row in sorted(held_out.items()) if (key := f"val/{name}") in row
        ]
        if seen:
            axis.plot(*zip(*seen, strict=True), "o-", color=ORANGE, ms=3, label="held out")
            axis.legend(frameon=False)
        if logarithmic:
            axis.set_yscale("log")
        axis.grid(alpha=0.25)
    for axis in axes[len(names) :]:
        axis.remove()
    _save(figure, path)


def _end_diastoles(beats: np.ndarray | None) -> np.ndarray:
    """Fractional steps at which a beat begins."""
    if beats is None:
        return np.zeros(0)
    known = np.flatnonzero(np.isfinite(beats))
    if len(known) == 0:
        return np.zeros(0)
    whole = np.arange(np.ceil(beats[known[0]]), np.floor(beats[known[-1]]) + 1)
    return np.interp(whole, beats[known], known + 0.5)


def _figure(width: float, height: float) -> "Figure":
    """A figure of its own, outside pyplot: no display, no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor="white")


def _title(figure: "Figure", text: str, simulated: bool) -> None:
    figure.suptitle(f"{text}  ·  simulated" if simulated else text, fontsize=12)


def _save(figure: "Figure", path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.writing")
    figure.savefig(half, format="png")
    half.replace(path)
