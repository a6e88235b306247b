"""Pictures of a segmentation: labels and predictions of some frames, a clip that beats outlined."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor
from scipy import ndimage

from echofm_jax import figure_theme
from echofm_jax.figure_gif import board, enlarge, pace, save_gif
from echofm_jax.figure_theme import DARK, Theme, headed, moment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = DARK.series  # of outlines on both pages: an echo is dark on either
FILL = 0.25  # share of a structure's colour in its pixels


def overlays(
    path: Path,
    cases: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    structures: Sequence[str],
    simulated: bool,
) -> None:
    """Labels above, predictions below, a column a frame.

    Args:
      path: PNG to write, and its twin for dark pages.
      cases: (caption, frame [S, S(, 3)] uint8, labels [S, S], predicted [S, S]).
      structures: [K] names, background first.
      simulated: the clips come from the phantom.
    """

    def draw(theme: Theme) -> "Figure":
        from matplotlib.patches import Patch

        figure = figure_theme.figure(3.0 * len(cases) + 0.4, 6.9)
        rows = figure.subplots(2, len(cases), squeeze=False)
        for name, row, which in zip(("labelled", "predicted"), rows, (2, 3), strict=True):
            row[0].set_ylabel(name, fontsize=11)
            for axis, case in zip(row, cases, strict=True):
                axis.imshow(outlined(enlarge(case[1]), case[which]), interpolation="nearest")
                axis.set(xticks=[], yticks=[])
        for axis, case in zip(rows[0], cases, strict=True):
            axis.set_title(case[0], fontsize=10)
        patches = [
            Patch(facecolor=INK[k % len(INK)], label=name) for k, name in enumerate(structures[1:])
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=10)
        figure_theme.title(figure, "Segmentation of frames of held-out patients", simulated)
        return figure

    figure_theme.save(path, draw)


def beating(
    path: Path, frames: np.ndarray, predicted: np.ndarray, fps: float, simulated: bool
) -> None:
    """A recording and its predicted outlines side by side, at its own pace.

    Args:
      path: GIF to write, and its twin for dark pages.
      frames: [T, S, S(, 3)] uint8.
      predicted: [T, S, S] structures.
      fps: frames a second, 0 = unknown.
      simulated: the clip comes from the phantom.
    """
    seconds = 1 / fps if fps else float("nan")

    def draw(theme: Theme, kept: list[int]) -> list[Image.Image]:
        pictures = []
        for i in kept:
            plain = enlarge(frames[i])
            columns = [("recording", plain), ("predicted", outlined(plain, predicted[i]))]
            told = headed(f"Segmentation  ·  {moment(i, seconds)}", simulated)
            pictures.append(board(theme, told, columns))
        return pictures

    save_gif(path, draw, pace(np.arange(len(frames)), seconds))


def outlined(picture: Image.Image, labels: np.ndarray) -> Image.Image:
    """An enlarged frame with each structure of `labels` [S, S] tinted and its outline drawn."""
    pixels = np.asarray(picture).copy()  # [H, W, 3]
    scale = pixels.shape[0] // labels.shape[0]
    large = labels.repeat(scale, axis=0).repeat(scale, axis=1)  # [H, W]
    for k in np.unique(labels[labels > 0]):
        colour = np.array(ImageColor.getrgb(INK[(k - 1) % len(INK)]))
        inside = large == k
        edge = inside & ~ndimage.binary_erosion(inside)
        pixels[inside] = (1 - FILL) * pixels[inside] + FILL * colour
        pixels[edge] = colour
    return Image.fromarray(pixels)


def extremes(scores: np.ndarray) -> list[tuple[str, int]]:
    """[n] the higher the better → the worst, the median and the best frame: (word, number)."""
    order = np.argsort(scores)
    places = {0: "worst", len(order) // 2: "median", len(order) - 1: "best"}
    return [(word, int(order[place])) for place, word in places.items()]
