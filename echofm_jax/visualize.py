"""Figures of a run in numbers: similarity maps with their lag curves, loss curves.

Arrays and a path in, NAME.png and NAME-dark.png out. A figure carries no name, id or path of what
it shows, and says so where the heart in it is simulated.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from echofm_jax import figure_theme, phase
from echofm_jax.figure_theme import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# metrics.jsonl key: (title, axis label, logarithmic)
CURVES = {
    "loss": ("Total loss", "loss", False),
    "recon": ("Reconstruction", "mean squared error", False),
    "triplet": ("Periodic contrast", "triplet loss", False),
    "cycle": ("Cycle distillation", "KL divergence (nats)", False),
    "grad_norm": ("Gradient norm", "norm before clipping", True),
    "lr": ("Learning rate", "learning rate", False),
}


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
    step, unit = figure_theme.time_unit(seconds_per_step, "steps")
    span, marks = len(embedding) * step, _end_diastoles(beats) * step

    def draw(theme: Theme) -> "Figure":
        figure = figure_theme.figure(12.5, 4.2)
        maps = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1, 1.15]})
        named = zip(("Frame embeddings", "Pixels (prior)"), (embedding, prior), strict=True)
        named = [(*pair, colour) for pair, colour in zip(named, theme.series, strict=False)]
        for axis, (name, S, _) in zip(maps, named, strict=False):
            image = axis.imshow(
                S, cmap=theme.diverging, vmin=-1, vmax=1, extent=(0, span, span, 0),
                interpolation="nearest",
            )  # fmt: skip
            axis.set(title=name, xlabel=f"time ({unit})", ylabel=f"time ({unit})")
            for time in marks:
                axis.axvline(time, color=theme.ink, lw=0.9, ls=":")
                axis.axhline(time, color=theme.ink, lw=0.9, ls=":")
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
        lags.axhline(0, color=theme.faint, lw=0.6)
        lags.set(title="Lag curve", xlabel=f"lag ({unit})", ylabel="mean cosine similarity")
        lags.set(xlim=(0, None), ylim=(None, 1.3))  # room for the legend
        lags.legend(fontsize=9, loc="upper right")
        marked = " (dotted: end-diastole)" if len(marks) else ""
        figure_theme.title(figure, f"Which moments look alike{marked}", simulated)
        return figure

    figure_theme.save(path, draw)


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
    rows = -(-len(names) // columns)

    def draw(theme: Theme) -> "Figure":
        figure = figure_theme.figure(4.0 * columns, 2.7 * rows + 0.4)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, name in zip(axes, names, strict=False):
            title, label, logarithmic = CURVES[name]
            logged = [step for step in steps if by_step[step].get(name) is not None]
            values = [by_step[step][name] for step in logged]
            axis.plot(logged, values, color=theme.series[0], lw=1.3, label="training")
            axis.set(title=title, xlabel="step", ylabel=label)
            key = f"val/{name}"
            seen = [(step, row[key]) for step, row in sorted(held_out.items()) if key in row]
            if seen:
                axis.plot(
                    *zip(*seen, strict=True), "o-", color=theme.series[1], ms=3, label="held out"
                )
                axis.legend()
            if logarithmic:
                axis.set_yscale("log")
            axis.grid()
        for axis in axes[len(names) :]:
            axis.remove()
        return figure

    figure_theme.save(path, draw)


def _end_diastoles(beats: np.ndarray | None) -> np.ndarray:
    """Fractional steps at which a beat begins."""
    if beats is None:
        return np.zeros(0)
    known = np.flatnonzero(np.isfinite(beats))
    if len(known) == 0:
        return np.zeros(0)
    whole = np.arange(np.ceil(beats[known[0]]), np.floor(beats[known[-1]]) + 1)
    return np.interp(whole, beats[known], known + 0.5)
