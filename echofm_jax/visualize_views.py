"""Map of the views: a linear discriminant plane fitted on training clips, shown on others."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import linalg

from echofm_jax import figure_theme
from echofm_jax.figure_theme import MARKS, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plane(NamedTuple):
    """Where a clip lies: ((features - mean) / scale) @ axes."""

    mean: np.ndarray  # [D]
    scale: np.ndarray  # [D]
    axes: np.ndarray  # [D, 2]

    def of(self, features: np.ndarray) -> np.ndarray:
        """[n, D] → [n, 2], in standard deviations within a view."""
        return (features - self.mean) / self.scale @ self.axes


def fit_plane(features: np.ndarray, views: Sequence[str]) -> Plane:
    """Fisher's linear discriminant analysis of clips [n, D] of at least two views.

    The two directions in which views lie furthest apart beside the spread within a view, whose
    covariance is shrunk (`shrunk_covariance`). Two views have one such direction; the second is
    then where clips of one view spread most.
    """
    views = np.asarray(views)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    x = ((features - mean) / scale).astype(np.float64)
    names = np.unique(views)
    centres = np.stack([x[views == name].mean(axis=0) for name in names])  # [views, D]
    which = np.searchsorted(names, views)
    within = shrunk_covariance(x - centres[which])
    between = centres[which].T @ centres[which] / len(x)
    _, axes = linalg.eigh(between, within)  # axes.T @ within @ axes = 1, ascending
    axes = axes[:, :-3:-1]  # [D, 2]
    if len(names) == 2:
        first = within @ axes[:, 0]  # what is uncorrelated with the first direction within a view
        free = linalg.null_space(first[None])
        _, spread = linalg.eigh(free.T @ within @ free)
        second = free @ spread[:, -1]
        axes[:, 1] = second / np.sqrt(second @ within @ second)
    return Plane(mean, scale, axes)


def shrunk_covariance(x: np.ndarray) -> np.ndarray:
    """Covariance [D, D] of centred x [n, D], drawn towards a sphere (Ledoit and Wolf 2004).

    Fewer clips than dimensions leave directions without any spread, in which all views would seem
    apart.
    """
    n, width = x.shape
    sample = x.T @ x / n
    level = np.trace(sample) / width
    distance = ((sample - level * np.eye(width)) ** 2).sum()
    noise = ((x**2).sum(axis=1) ** 2).mean() / n - (sample**2).sum() / n
    share = min(1.0, noise / max(distance, 1e-12))
    return (1 - share) * sample + max(share * level, 1e-9) * np.eye(width)


def view_map(
    path: Path,
    train: tuple[np.ndarray, Sequence[str]],
    shown: tuple[np.ndarray, Sequence[str]],
    split: str,
    simulated: bool = False,
) -> None:
    """Clips that the plane was not fitted on, a mark and a colour for each view.

    Nothing is written where fewer than two views have training clips, or no clip to show is of
    such a view.

    Args:
      path: PNG to write.
      train: video embeddings [n, D] and the view of each clip; "" is not known.
      shown: the same of held-out clips. Views without a training clip are left out and named.
      split: the name of the held-out split.
      simulated: the clips come from the phantom.
    """
    fitted = [i for i, view in enumerate(train[1]) if view]
    known = sorted({train[1][i] for i in fitted})
    kept = [i for i, view in enumerate(shown[1]) if view in known]
    if len(known) < 2 or not kept:
        return
    plane = fit_plane(train[0][fitted], [train[1][i] for i in fitted])
    at, means = plane.of(shown[0]), plane.of(train[0])
    caption = f"fitted on {count(len(fitted))} of train, shown on {count(len(kept))} of {split}"
    if left_out := Counter(view for view in shown[1] if view and view not in known):
        names = ", ".join(f"{view} ({count(n)})" for view, n in sorted(left_out.items()))
        caption += "\n" + textwrap.fill(f"left out, not in train: {names}", 80)
    second = "second discriminant" if len(known) > 2 else "widest spread"

    def draw(theme: Theme) -> "Figure":
        figure = figure_theme.figure(7.6, 5.2)
        axis = figure.add_subplot()
        for i, view in enumerate(known):
            colour, symbol = theme.series[i % len(theme.series)], MARKS[i % len(MARKS)]
            own = [k for k in kept if shown[1][k] == view]
            centre = means[[k for k in fitted if train[1][k] == view]].mean(axis=0)
            axis.plot(*centre, "+", color=colour, ms=15, mew=2.2)
            axis.plot(
                *at[own].T, symbol, color=colour, ms=7, mec=theme.page, mew=0.6,
                label=f"{view}: {count(len(own))}",
            )  # fmt: skip
        axis.plot([], [], "+", color=theme.ink, ms=11, mew=1.8, label="mean of training clips")
        axis.set(
            xlabel="first discriminant (standard deviations within a view)",
            ylabel=f"{second} (standard deviations within a view)",
        )
        axis.grid()
        axis.set_axisbelow(True)
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
        axis.set_title(caption, fontsize=10)
        figure_theme.title(figure, "Views by video embedding", simulated)
        return figure

    figure_theme.save(path, draw)


def count(clips: int) -> str:
    """So many clips."""
    return "1 clip" if clips == 1 else f"{clips} clips"
