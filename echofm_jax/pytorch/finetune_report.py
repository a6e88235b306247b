"""What all trainings of `echofm finetune` came to: one table, one file, a learning curve."""

import collections
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from echofm_jax import figure_theme
from echofm_jax.atomic import write_text
from echofm_jax.figure_theme import Theme
from echofm_jax.pytorch.head_echofm import TASKS

MAIN = {"classes": "balanced_accuracy", "grades": "balanced_accuracy", "number": "mae",
        "masks": "dice", "prompts": "dice_after_3",
        "points": "landmark_error_pixels"}  # fmt: skip


def write(workdir: Path, task: str, found: Sequence[Mapping], refused: Sequence) -> dict:
    """Write WORKDIR/metrics.json, table.csv and, of several shares or numbers of examinations, a
    learning curve; returns the figures.
    """
    reasons = collections.Counter(reason for _, reason, _ in refused)
    summary = {
        "task": task,
        "workdir": str(workdir),
        "refused": dict(sorted(reasons.items())),
        "runs": list(found),
    }
    write_text(workdir / "metrics.json", json.dumps(summary, indent=1) + "\n")
    write_table(workdir / "table.csv", found)
    name = MAIN[found[0]["task"]]
    if len({amount(run) for run in found}) > 1:
        figure_theme.save(
            workdir / "learning_curve.png", lambda theme: learning_curve(theme, found, name)
        )
    return summary


def amount(run: Mapping) -> float:
    """How much a run was given to train on, as its name says: a share, or so many examinations."""
    told = [part for part in run["run"].split("-") if part.startswith(("share=", "studies="))]
    return float(told[0].split("=")[1]) if told else 1.0


def row(run: Mapping) -> dict:
    """A line of the table: what learned, from how much, at what cost, how well."""
    name = MAIN[run["task"]]
    score = run["scores"][name]
    peak = run.get("peak_memory", {"bytes": None, "what": "not measured"})  # by older versions
    return {
        "run": run["run"], "weights": run["weights"], "mode": run["recipe"]["mode"],
        "head": run["recipe"]["head"] if run["task"] in TASKS else "decoder",
        "train_clips": run["clips"]["train"], "train_patients": run["patients"]["train"],
        "trained_parameters": run["trained_parameters"],
        "peak_memory_mib": None if peak["bytes"] is None else round(peak["bytes"] / 2**20, 1),
        "memory_is": peak["what"], "figure": name, "value": score["value"], "low": score["low"],
        "high": score["high"], "chance": run["chance"].get(name),
    }  # fmt: skip


def write_table(path: Path, found: Sequence[Mapping]) -> None:
    """A line a training; what is not known is empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, row(found[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(map(row, found))
    write_text(path, text.getvalue())


def compared(found: Sequence[Mapping]) -> list[str]:
    """The table as lines, for several trainings; none for one."""
    if len(found) < 2:
        return []
    rows = [row(run) for run in found]
    wide = max(len(one["run"]) for one in rows)
    head = f"{'':{wide}s} {'mode':8s} {'trained':>11s} {'memory MiB':>11s}  {rows[0]['figure']}"
    lines = [head]
    for one in rows:
        memory = "unknown" if one["peak_memory_mib"] is None else f"{one['peak_memory_mib']:.0f}"
        lines.append(
            f"{one['run']:{wide}s} {one['mode']:8s} {one['trained_parameters']:11,d} {memory:>11s}"
            f"  {figure(one['value'])} ({figure(one['low'])} – {figure(one['high'])})"
        )
    return [*lines, f"memory: peak while training, {rows[0]['memory_is']}"]


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
    lines += compared(summary["runs"])
    for reason, count in summary["refused"].items():
        lines.append(f"left out: {count} clips, {reason}")
    lines.append(f"{summary['workdir']}: RUN/head, predictions.csv, metrics.json, figures")
    return "\n".join(lines)


def figure(value: float | None) -> str:
    """A figure, or that it is not defined."""
    return "none" if value is None else f"{value:.3f}"


def learning_curve(theme: Theme, found: Sequence[Mapping], name: str) -> "figure_theme.Figure":
    """The main figure against training patients: folds and seeds as points, means as a line.

    A line for each kind of weights, and for each mode where there are several.
    """
    drawn = figure_theme.figure(5.6, 4.0)
    axes = drawn.add_subplot()
    several = len({run["recipe"]["mode"] for run in found}) > 1
    lines = collections.defaultdict(lambda: collections.defaultdict(list))
    for run in found:
        label = f"{run['weights']} weights" + f", {run['recipe']['mode']}" * several
        value = run["scores"][name]["value"]
        if value is not None:
            lines[label][amount(run)].append((run["patients"]["train"], value))
    for i, (label, points) in enumerate(sorted(lines.items())):
        x = [np.mean([count for count, _ in points[s]]) for s in sorted(points)]
        y = [np.mean([value for _, value in points[s]]) for s in sorted(points)]
        colour = theme.series[i % len(theme.series)]
        mark = figure_theme.MARKS[i % len(figure_theme.MARKS)]
        axes.plot(x, y, color=colour, marker=mark, label=label)
        each = np.array([pair for s in points for pair in points[s]])
        axes.plot(*each.T, mark, color=colour, alpha=0.35, ms=4)
    axes.set(xscale="log", xlabel="patients to train on", ylabel=name.replace("_", " "))
    axes.grid(True)
    axes.legend(fontsize=8)
    title = f"{found[0]['target'].replace('_', ' ')}: what more labels bring"
    figure_theme.title(drawn, title, found[0]["simulated"])
    return drawn
