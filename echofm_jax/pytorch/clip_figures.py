"""Pictures of a clip head's answers: confusion, ROC, truth against answer, Bland-Altman, losses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from echofm_jax import figure_theme
from echofm_jax.figure_theme import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from echofm_jax.pytorch.finetune_run import Run


def draw(
    run: "Run", told: np.ndarray, truth: np.ndarray, patients: Sequence[str], history: list[dict]
) -> None:
    """Write RUN/figures; told: [E, names] probabilities or [E, 1] numbers, truth: [E]."""
    folder = run.folder / "figures"
    word = run.target.replace("_", " ")

    def titled(figure: "Figure", text: str) -> "Figure":
        whose = f"{len(truth)} held-out, {len(set(patients))} patients"
        figure_theme.title(figure, f"{text}\n{whose}", run.simulated)
        return figure

    if run.task == "number":
        unit = run.outputs[0]
        figure_theme.save(
            folder / "answers.png",
            lambda theme: titled(scatter(theme, told[:, 0], truth, unit), f"{word}: truth, answer"),
        )
        figure_theme.save(
            folder / "bland_altman.png",
            lambda theme: titled(
                bland_altman(theme, told[:, 0], truth, unit), f"{word}: agreement"
            ),
        )
    else:
        figure_theme.save(
            folder / "confusion.png",
            lambda theme: titled(confusion(theme, told, truth, run.outputs), f"{word}: confusion"),
        )
        figure_theme.save(
            folder / "roc.png",
            lambda theme: titled(
                roc(theme, told, truth, run.outputs), f"{word}: each against others"
            ),
        )
    if history:
        figure_theme.save(
            folder / "learning.png",
            lambda theme: titled(losses(theme, history), f"{word}: training"),
        )


def confusion(theme: Theme, told: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> "Figure":
    """Truth down, answers across; counts, coloured by their share of the row."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (truth, told.argmax(1)), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    drawn = figure_theme.figure(2.2 + 0.62 * len(names), 2.2 + 0.55 * len(names))
    axes = drawn.add_subplot()
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("share", [theme.page, theme.series[0]])
    axes.imshow(share, cmap=shades, vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        ink = theme.page if share[row, column] > 0.5 else theme.ink
        axes.text(column, row, counts[row, column], ha="center", va="center", color=ink)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="truth")
    return drawn


def roc(theme: Theme, told: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> "Figure":
    """Sensitivity against false alarms of each class that some clips have and others have not."""
    from sklearn.metrics import roc_auc_score, roc_curve

    drawn = figure_theme.figure(5.2, 4.6)
    axes = drawn.add_subplot()
    axes.plot([0, 1], [0, 1], ":", color=theme.faint, lw=1)
    for i, name in enumerate(names):
        is_so = truth == i
        if is_so.any() and not is_so.all():
            wrong, right, _ = roc_curve(is_so, told[:, i])
            area = roc_auc_score(is_so, told[:, i])
            colour = theme.series[i % len(theme.series)]
            axes.plot(wrong, right, color=colour, label=f"{name}: {area:.2f}")
    axes.set(xlabel="false alarms", ylabel="sensitivity", aspect="equal")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title="area", fontsize=8, loc="lower right")
    return drawn


def scatter(theme: Theme, told: np.ndarray, truth: np.ndarray, unit: str) -> "Figure":
    """A point a clip, and where truth and answer are the same."""
    drawn = figure_theme.figure(4.8, 4.6)
    axes = drawn.add_subplot()
    ends = [min(told.min(), truth.min()), max(told.max(), truth.max())]
    axes.plot(ends, ends, ":", color=theme.faint, lw=1)
    axes.plot(truth, told, "o", color=theme.series[0], ms=4, alpha=0.7)
    axes.set(xlabel=f"truth, {unit}", ylabel=f"answer, {unit}", aspect="equal")
    return drawn


def bland_altman(theme: Theme, told: np.ndarray, truth: np.ndarray, unit: str) -> "Figure":
    """Difference against mean, with bias and limits of agreement (Bland and Altman 1986)."""
    drawn = figure_theme.figure(5.6, 4.2)
    axes = drawn.add_subplot()
    off = told - truth
    bias, spread = off.mean(), off.std(ddof=1) if len(off) > 1 else 0.0
    axes.plot((told + truth) / 2, off, "o", color=theme.series[0], ms=4, alpha=0.7)
    for value, style in ((bias, "-"), (bias - 1.96 * spread, "--"), (bias + 1.96 * spread, "--")):
        axes.axhline(value, ls=style, color=theme.series[1], lw=1)
        axes.annotate(f"{value:+.1f}", (1, value), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", fontsize=8)  # fmt: skip
    axes.set(xlabel=f"mean of truth and answer, {unit}", ylabel=f"answer - truth, {unit}")
    return drawn


def losses(theme: Theme, history: list[dict]) -> "Figure":
    """Training loss and validation score, epoch by epoch."""
    drawn = figure_theme.figure(5.6, 3.8)
    axes = drawn.add_subplot()
    epochs = [h["epoch"] for h in history]
    axes.plot(epochs, [h["loss"] for h in history], color=theme.series[0], label="training")
    axes.plot(epochs, [-h["score"] for h in history], color=theme.series[1], label="validation")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend(fontsize=8)
    return drawn
