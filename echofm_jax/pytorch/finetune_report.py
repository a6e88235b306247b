"""What all trainings of `echofm finetune` came to: one table, one file, a learning curve."""

import collections
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from echofm_jax import figure_theme
from echofm_jax.atomic import write_text
from echofm_jax.figure_theme import Theme

MAIN = {"classes": "balanced_accuracy", "grades": "balanced_accuracy", "number": "mae",
        "masks": "dice", "prompts": "dice_after_3",
        "points": "landmark_error_pixels"}  # fmt: skip


def write(workdir: Path, task: str, found: Sequence[Mapping], refused: Sequence) -> dict:
    """Write WORKDIR/metrics.json and, of several shares, a learning curve; returns the figures."""
    reasons = collections.Counter(reason for _, reason, _ in refused)
    summary = {
        "task": task,
        "workdir": str(workdir),
        "refused": dict(sorted(reasons.items())),
        "runs": list(found),
    }
    write_text(workdir / "metrics.json", json.dumps(summary, indent=1) + "\n")
    name = MAIN[found[0]["task"]]
    if len({share(run) for run in found}) > 1:
        figure_theme.save(
            workdir / "learning_curve.png", lambda theme: learning_curve(theme, found, name)
        )
    return summary


def share(run: Mapping) -> float:
    """Of the training patients that a run was given, as its name says."""
    told = [part for part in run["run"].split("-") if part.startswith("share=")]
    return float(told[0].removeprefix("share=")) if told else 1.0


def text(summary: Mapping) -> str:
    """A line a training: its main figure with the interval over patients, the others, chance."""
    lines = []
    for run in summary["runs"]:
        counted = f"{run['clips']['train']} clips, {run['clips']['test']} held out"
        lines.append(f"{run['run']} ({counted})")
        width = max(20, *map(len, run["scores"]))
        for name, score in run["scores"].items():
            value, low, high = map(figure, score.values())
            chance = run["chance"].get(name)
            beside = "" if chance is None else f"   chance {figure(chance)}"
            lines.append(f"  {name:{width}s} {value:>8s}   {low} – {high}{beside}")
    for reason, count in summary["refused"].items():
        lines.append(f"left out: {count} clips, {reason}")
    lines.append(f"{summary['workdir']}: RUN/head, predictions.csv, metrics.json, figures")
    return "\n".join(lines)


def figure(value: float | None) -> str:
    """A figure, or that it is not defined."""
    return "none" if value is None else f"{value:.3f}"


def learning_curve(theme: Theme, found: Sequence[Mapping], name: str) -> "figure_theme.Figure":
    """The main figure against training patients: folds and seeds as points, means as a line."""
    drawn = figure_theme.figure(5.6, 4.0)
    axes = drawn.add_subplot()
    for i, weights in enumerate(("pretrained", "random")):
        points = collections.defaultdict(list)
        for run in found:
            value = run["scores"][name]["value"]
            if run["weights"] == weights and value is not None:
                points[share(run)].append((run["patients"]["train"], value))
        if not points:
            continue
        x = [np.mean([count for count, _ in points[s]]) for s in sorted(points)]
        y = [np.mean([value for _, value in points[s]]) for s in sorted(points)]
        colour, mark = theme.series[i], figure_theme.MARKS[i]
        axes.plot(x, y, color=colour, marker=mark, label=f"{weights} weights")
        each = np.array([pair for s in points for pair in points[s]])
        axes.plot(*each.T, mark, color=colour, alpha=0.35, ms=4)
    axes.set(xscale="log", xlabel="patients to train on", ylabel=name.replace("_", " "))
    axes.grid(True)
    axes.legend(fontsize=8)
    title = f"{found[0]['target'].replace('_', ' ')}: what more labels bring"
    figure_theme.title(drawn, title, found[0]["simulated"])
    return drawn
