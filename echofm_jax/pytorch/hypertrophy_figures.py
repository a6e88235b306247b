"""Pictures of measured walls: calipers on some frames, measured against true lengths."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from echofm_jax import figure_theme
from echofm_jax.figure_theme import DARK, Theme
from echofm_jax.pytorch.hypertrophy_head import LENGTHS, THICK
from echofm_jax.pytorch.hypertrophy_metrics import Truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = DARK.series  # of calipers on both pages: an echo is dark on either
TICK = 4.0  # pixels, half of the bar at a caliper's end


def overlays(
    path: Path,
    cases: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    simulated: bool,
) -> None:
    """Calipers as labelled, dashed, and as found, a column a frame.

    Args:
      path: PNG to write, and its twin for dark pages.
      cases: (caption, frame [S, S(, 3)] uint8, labelled [4, 2], found [4, 2]).
      simulated: the clips come from the phantom.
    """

    def draw(theme: Theme) -> "Figure":
        from matplotlib.lines import Line2D

        figure = figure_theme.figure(3.4 * len(cases) + 0.3, 4.2)
        for axis, (caption, frame, true, found) in zip(
            figure.subplots(1, len(cases), squeeze=False)[0], cases, strict=True
        ):
            axis.imshow(frame, cmap="gray", vmin=0, vmax=255)
            calipers(axis, true, "--", TICK)
            calipers(axis, found, "-", 0.6 * TICK)
            axis.set(xticks=[], yticks=[])
            axis.set_title(caption, fontsize=10)
        marks = [Line2D([], [], color=INK[k], label=name) for k, name in enumerate(LENGTHS)]
        marks += [
            Line2D([], [], color=theme.ink, ls=line, label=name)
            for line, name in (("--", "labelled"), ("-", "found"))
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize=9)
        figure_theme.title(figure, "Walls and cavity of held-out patients", simulated)
        return figure

    figure_theme.save(path, draw)


def calipers(axis: "Axes", places: np.ndarray, line: str, tick: float) -> None:
    """Lines between landmarks [4, 2] x, y, a bar across each end; none to one that is unknown."""
    for k, ends in enumerate(pairwise(places)):
        a, b = ends
        across = (b - a)[::-1] * (1, -1) / max(float(np.linalg.norm(b - a)), 1e-6) * tick
        for one, other in ((a, b), (a - across, a + across), (b - across, b + across)):
            axis.plot(*zip(one, other, strict=True), line, color=INK[k], lw=1.2)


def scatter(path: Path, truth: Truth, told: np.ndarray, simulated: bool) -> None:
    """Found against true lengths at end-diastole; in mm if any clip's pixels are known.

    `told`: [n, 3] of LENGTHS.
    """
    unit = "mm" if (truth.known & truth.diastole).any() else "pixels"
    here = truth.diastole & (truth.known == (unit == "mm"))

    def draw(theme: Theme) -> "Figure":
        figure = figure_theme.figure(10.2, 3.9)
        for k, (axis, name) in enumerate(zip(figure.subplots(1, 3), LENGTHS, strict=True)):
            x, y = truth.lengths[here, k], told[here, k]
            shown = np.isfinite(x)
            x, y = x[shown], y[shown]
            axis.plot(x, y, "o", color=theme.series[k], alpha=0.6, ms=4)
            if len(x):
                ends = min(x.min(), y.min()), max(x.max(), y.max())
                axis.plot(ends, ends, color=theme.faint, lw=1)
            if unit == "mm" and name != "lvid":
                axis.axvline(THICK, color=theme.faint, ls=":", lw=1)
                axis.axhline(THICK, color=theme.faint, ls=":", lw=1)
            axis.set(xlabel=f"labelled [{unit}]", ylabel=f"found [{unit}]", title=f"{name}, ED")
            axis.grid(True)
        whose = f"{here.sum()} held-out frames, {len(set(truth.patients))} patients"
        figure_theme.title(figure, f"Walls and cavity: labelled, found\n{whose}", simulated)
        return figure

    figure_theme.save(path, draw)
