"""Map of the views: a linear discriminant plane fitted on training clips, shown on others."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from echofm_jax import figure_theme
from echofm_jax.figure_theme import MARKS, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plane:
    """The plane in which views lie furthest apart beside the spread within a view.

    Fisher's linear discriminant analysis, the covariance shrunk as Ledoit and Wolf (2004) do: fewer
    clips than dimensions leave directions without any spread, in which all views would seem apart.
    Two views have one such direction; the second is then where clips of one view spread most.
    """

    def __init__(self, features: np.ndarray, views: Sequence[str]):
        """Fit on clips [n, D] of at least two views."""
        from sklearn.decomposition import PCA
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.preprocessing import StandardScaler

        self._scale = StandardScaler().fit(features)
        x = self._scale.transform(features)
        self._apart = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(x, views)
        self._spread = None
        if len(self._apart.classes_) == 2:
            own = self._apart.means_[np.searchsorted(self._apart.classes_, views)]
            self._spread = PCA(1, whiten=True, random_state=0).fit(x - own)

    def of(self, features: np.ndarray) -> np.ndarray:
        """[n, D] → [n, 2], in standard deviations within a view."""
        x = self._scale.transform(features)
        first = self._apart.transform(x)[:, :2]
        return first if self._spread is None else np.hstack([first, self._spread.transform(x)])


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
    plane = Plane(train[0][fitted], [train[1][i] for i in fitted])
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
