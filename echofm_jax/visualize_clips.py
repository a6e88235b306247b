"""Reconstruction of a held-out clip: rows of frames as PNG, the clip playing as GIF."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor

from echofm_jax import figure_theme
from echofm_jax.figure_gif import board, enlarge, pace, save_gif
from echofm_jax.figure_theme import Theme, moment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8  # frames that a row has room for
NAMES = ("original", "masked", "reconstructed")


def reconstruction(
    path: Path,
    original: np.ndarray,
    masked: np.ndarray,
    reconstructed: np.ndarray,
    index: np.ndarray,
    seconds: float,
    simulated: bool = False,
) -> None:
    """Three rows of frames: what the camera saw, what the model saw, what it made of that.

    Args:
      path: PNG to write.
      original: [n, H, W] grey frames in [0, 1]; at most COLUMNS of them are shown.
      masked: the same, with nan where a patch was hidden.
      reconstructed: the same, hidden patches predicted.
      index: [n] each frame's place in the clip.
      seconds: between frames of the clip; nan where the frame rate is not known.
      simulated: the clip comes from the phantom.
    """
    shown = np.linspace(0, len(original) - 1, min(len(original), COLUMNS)).astype(int)

    def draw(theme: Theme) -> "Figure":
        figure = figure_theme.figure(1.25 * len(shown) + 0.9, 4.6)
        axes = figure.subplots(3, len(shown), squeeze=False)
        clips = (original, masked, reconstructed)
        for row, name, frames in zip(axes, NAMES, clips, strict=True):
            row[0].set_ylabel(name, fontsize=11)
            for axis, frame in zip(row, frames[shown], strict=True):
                axis.set_facecolor(theme.hidden)
                axis.imshow(np.ma.masked_invalid(frame), cmap="gray", vmin=0, vmax=1)
                axis.set(xticks=[], yticks=[])
        for axis, place in zip(axes[0], index[shown], strict=True):
            axis.set_title(moment(place, seconds), fontsize=10)
        figure_theme.title(figure, heading(masked), simulated)
        return figure

    figure_theme.save(path, draw)


def reconstruction_gif(
    path: Path,
    original: np.ndarray,
    masked: np.ndarray,
    reconstructed: np.ndarray,
    index: np.ndarray,
    seconds: float,
    simulated: bool = False,
) -> None:
    """All target frames at the clip's pace: original, masked, reconstructed side by side.

    Takes what `reconstruction` takes. Without a frame rate it plays 30 frames of the clip a second.
    """

    def draw(theme: Theme, kept: list[int]) -> list[Image.Image]:
        clips = [coloured(clip, theme) for clip in (original, masked, reconstructed)]
        told = figure_theme.headed(heading(masked), simulated)
        pictures = []
        for i in kept:
            columns = [(name, enlarge(clip[i])) for name, clip in zip(NAMES, clips, strict=True)]
            pictures.append(board(theme, f"{told}  ·  {moment(index[i], seconds)}", columns))
        return pictures

    save_gif(path, draw, pace(index, seconds))


def heading(masked: np.ndarray) -> str:
    """What the model had to do."""
    return f"Reconstruction with {np.isnan(masked).mean():.0%} of the patches hidden"


def coloured(frames: np.ndarray, theme: Theme) -> np.ndarray:
    """[n, H, W] grey in [0, 1], nan where hidden → [n, H, W, 3] uint8."""
    grey = np.rint(255 * np.nan_to_num(frames)).astype(np.uint8)[..., None]
    hidden = np.array(ImageColor.getrgb(theme.hidden), np.uint8)
    return np.where(np.isnan(frames)[..., None], hidden, grey)
