"""Pictures of an interactive segmentation: Dice against clicks, and frames as clicks come."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from echofm_jax import figure_theme
from echofm_jax.figure_gif import enlarge
from echofm_jax.figure_theme import MARKS, Theme
from echofm_jax.pytorch.interactive_metrics import CLICKS
from echofm_jax.pytorch.prompt_encoder import NEGATIVE, POSITIVE
from echofm_jax.pytorch.scores import Score
from echofm_jax.pytorch.segmentation_figures import outlined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNS = {POSITIVE: ("+", "#ffffff"), NEGATIVE: ("x", "#ff6f4a")}


class Case(NamedTuple):
    """One structure of one frame."""

    caption: str
    frame: np.ndarray  # [S, S(, 3)] uint8
    truth: np.ndarray  # [S, S] bool
    masks: Sequence[np.ndarray]  # [S, S] bool after so many clicks
    dice: Sequence[float]  # of each
    points: np.ndarray  # [n, 2] x, y of all clicks
    kinds: np.ndarray  # [n]
    clicks: Sequence[int]  # how many each mask follows


def curve(
    path: Path, scores: Mapping[str, Score], blind: Mapping[str, float], names: Sequence[str],
    simulated: bool,
) -> None:  # fmt: skip
    """Dice after 1 to CLICKS clicks, a line a structure, dashed what a disc reaches.

    Args:
      path: PNG to write, and its twin for dark pages.
      scores: `PREFIXdice_after_N_STRUCTURE` with intervals.
      blind: the same without looking.
      names: `dice_after_{}_STRUCTURE` of each line, the clicks to be filled in.
      simulated: the clips come from the phantom.
    """
    x = np.arange(1, CLICKS + 1)

    def draw(theme: Theme) -> "Figure":
        drawn = figure_theme.figure(5.6, 4.2)
        axes = drawn.add_subplot()
        for i, name in enumerate(names):
            found = np.array([scores[name.format(k)] for k in x])  # [CLICKS, 3]
            colour = theme.series[i % len(theme.series)]
            label = name.replace("dice_after_{}_", "").replace("zero_shot_", "never trained on: ")
            axes.plot(x, found[:, 0], color=colour, marker=MARKS[i % len(MARKS)], label=label)
            axes.fill_between(x, found[:, 1], found[:, 2], color=colour, alpha=0.15, lw=0)
            axes.axhline(blind[name.format(1)], color=colour, ls=(0, (4, 3)), lw=1)
        axes.plot([], [], color=theme.faint, ls=(0, (4, 3)), lw=1, label="disc around the click")
        axes.set(xlabel="clicks", ylabel="Dice", xticks=x)
        axes.grid(True)
        axes.legend(fontsize=8)
        figure_theme.title(drawn, "Interactive segmentation, held-out patients", simulated)
        return drawn

    figure_theme.save(path, draw)


def frames(path: Path, cases: Sequence[Case], simulated: bool) -> None:
    """A row a case: the truth, then the masks as clicks came, and the clicks."""

    def draw(theme: Theme) -> "Figure":
        columns = 1 + len(cases[0].masks)
        drawn = figure_theme.figure(2.5 * columns, 2.75 * len(cases) + 0.5)
        rows = drawn.subplots(len(cases), columns, squeeze=False)
        for axes, case in zip(rows, cases, strict=True):
            plain = enlarge(case.frame)
            scale = plain.height / len(case.frame)
            axes[0].imshow(outlined(plain, case.truth.astype(np.uint8)), interpolation="nearest")
            axes[0].set_title("labelled", fontsize=9)
            axes[0].set_ylabel(case.caption, fontsize=9)
            told = zip(axes[1:], case.masks, case.dice, case.clicks, strict=True)
            for axis, mask, dice, count in told:
                axis.imshow(outlined(plain, mask.astype(np.uint8)), interpolation="nearest")
                plural = "s" if count > 1 else ""
                axis.set_title(f"{count} click{plural}: Dice {dice:.2f}", fontsize=9)
                for kind, (sign, colour) in SIGNS.items():
                    own = case.points[:count][case.kinds[:count] == kind]  # [n, 2]
                    place = (own + 0.5) * scale - 0.5
                    axis.scatter(*place.T, marker=sign, color=colour, s=60, linewidths=2)
            for axis in axes:
                axis.set(xticks=[], yticks=[])
        title = "Outlines as clicks come (+ inside, x outside)"
        figure_theme.title(drawn, title, simulated)
        return drawn

    figure_theme.save(path, draw)
