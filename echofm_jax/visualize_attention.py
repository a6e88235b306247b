"""Attention roll-out as a heat map over the frames of a clip."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from echofm_jax import figure_theme
from echofm_jax.figure_theme import Theme, moment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8  # steps that a row has room for


def attention_map(
    path: Path,
    clip: np.ndarray,
    relevance: np.ndarray,
    seconds: float,
    simulated: bool = False,
) -> None:
    """Above, frames of the clip; below, the same under what the encoder draws from each patch.

    Args:
      path: PNG to write.
      clip: [T, H, W] grey uint8.
      relevance: [t, L] of `attention_rollout.relevance`; L patches of a square frame.
      seconds: between frames; nan where the frame rate is not known.
      simulated: the clip comes from the phantom.
    """
    from matplotlib.colors import LinearSegmentedColormap

    steps, side = len(relevance), round(relevance.shape[1] ** 0.5)
    tubelet = len(clip) // steps
    shown = np.linspace(0, steps - 1, min(steps, COLUMNS)).astype(int)
    middles = shown * tubelet + (tubelet - 1) // 2  # the frame that stands for a tubelet
    patches = relevance.reshape(steps, side, side)
    box = (0, clip.shape[2], clip.shape[1], 0)

    glow = LinearSegmentedColormap.from_list("glow", [(1, 0.55, 0.1, 0), (1, 0.55, 0.1, 0.9)])

    def draw(theme: Theme) -> "Figure":
        figure = figure_theme.figure(1.25 * len(shown) + 1.4, 3.15)
        axes = figure.subplots(2, len(shown), squeeze=False)
        for column, step, frame in zip(axes.T, shown, middles, strict=True):
            for axis in column:
                axis.imshow(clip[frame], cmap="gray", vmin=0, vmax=255, extent=box)
                axis.set(xticks=[], yticks=[])
            heat = column[1].imshow(
                patches[step], cmap=glow, vmin=patches.min(), vmax=patches.max(), extent=box
            )
            column[0].set_title(moment(frame, seconds), fontsize=10)
        axes[0, 0].set_ylabel("clip", fontsize=11)
        axes[1, 0].set_ylabel("attention", fontsize=11)
        bar = figure.colorbar(heat, ax=axes, shrink=0.9, pad=0.01)
        bar.ax.set_facecolor("black")  # as most of a frame is
        bar.set_label("relevance (1: an even share)")
        figure_theme.title(
            figure, "Attention roll-out: what the mean of all tokens draws from each", simulated
        )
        return figure

    figure_theme.save(path, draw)
