"""Figures of a comparison: every setting, a metric against a field, losses, cost against quality.

Drawn once without background, in colours that a light page and a dark one both carry.
"""

import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from echofm_jax import config as configs
from echofm_jax.compare_table import COST, LOSSES, Estimate, Metric, Row, differing, estimate
from echofm_jax.metrics import read_metrics
from echofm_jax.visualize import CURVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#3b8ed0", "#e07b39", "#3fa66b", "#c65b9b", "#9a7bd1", "#b0912e", "#4fa3a3", "#d35f5f")
DASHES = ("-", "--", ":", "-.")
DECIMALS = re.compile(r"(\.\d\d)\d+")
INK = "#1c1d1e"  # a colour that nothing else has: a page puts its text's colour there
RC = {
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.facecolor": "none", "figure.facecolor": "none",
    "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 10.5, "font.size": 9.5, "grid.color": "#888888", "grid.alpha": 0.25,
    "axes.grid": True, "font.sans-serif": ["DejaVu Sans"], "svg.hashsalt": "echofm",
    "svg.fonttype": "none",
}  # fmt: skip


def draw(rows: Sequence[Row], metrics: Sequence[Metric]) -> dict[str, "Figure"]:
    """All figures that the runs have something for, {file name: figure}."""
    from matplotlib import rc_context

    shown = [m for m in metrics if m.better and m.name not in COST]
    with rc_context(RC):
        figures = {"settings": every_setting(rows, shown)} if shown else {}
        for field, lines in by_field(rows).items():
            figures[f"field-{field}"] = against_field(field, lines, shown)
        figures["losses"] = loss_curves(rows)
        for name, (label, unit) in COST.items():
            figures[f"cost-{name}"] = against_cost(rows, shown, name, f"{label} ({unit})")
    return {name: figure for name, figure in figures.items() if figure is not None}


def every_setting(rows: Sequence[Row], metrics: Sequence[Metric]) -> "Figure":
    """A panel for each metric, a line for each setting: its seeds, their mean and interval."""
    figure, axes = panels(len(metrics), 0.26 * len(rows) + 1.3, sharey=True)
    for axis, metric in zip(axes, metrics, strict=True):
        for y, row in enumerate(rows):
            seeds = [run.metrics[metric.name] for run in row.runs if metric.name in run.metrics]
            colour = COLOURS[0]
            axis.plot(seeds, [y + 0.25] * len(seeds), "o", color=colour, alpha=0.6, ms=4, mew=0)
            bar(axis, row.values[metric.name], y, colour, best=metric.name in row.best)
        axis.set(title=titled(metric), xlabel=axis_label(metric), ylim=(len(rows) - 0.3, -0.5))
        axis.set_xlim(span(rows, metric.name))
        axis.set_yticks(range(len(rows)), [row.setting for row in rows])
    figure.suptitle("Every setting: seeds (dots), mean and 95 % interval; filled: best mean")
    return figure


def bar(axis: "Axes", value: Estimate, y: float, colour: str, best: bool) -> None:
    """A mean with its interval, lying."""
    if value.n:
        half = value.half if np.isfinite(value.half) else 0
        style = {"mfc": colour if best else "none", "mec": colour, "ecolor": colour}
        axis.errorbar(value.mean, y, xerr=half, fmt="D", ms=6, capsize=3, lw=1.4, **style)


def by_field(rows: Sequence[Row]) -> dict[str, dict[str, list[tuple[object, Row]]]]:
    """Field → (what all else is → [(value, row)]), for fields that change while all else stays."""
    rows = [row for row in rows if row.done]
    fields = differing([run for row in rows for run in row.runs])
    flat = [configs.leaves(row.runs[0].config) for row in rows]
    found = {}
    for field in fields:
        others = [other for other in fields if other != field]
        # The rest of the config names a line only by what tells lines apart.
        lines = defaultdict(list)
        for row, leaves in zip(rows, flat, strict=True):
            told = [f"{other.rpartition('.')[2]}={leaves.get(other, 'none')}" for other in others]
            name = ", ".join(told)
            if field in leaves:  # not all methods have it
                lines[name].append((leaves[field], row))
        lines = {name: points for name, points in lines.items() if len(points) > 1}
        if lines:
            found[field] = lines
    return found


def against_field(
    field: str, lines: Mapping[str, Sequence[tuple[object, Row]]], metrics: Sequence[Metric]
) -> "Figure | None":
    """A panel for each metric: its mean and interval over the values of a field."""
    if not metrics:
        return None
    values = [value for points in lines.values() for value, _ in points]
    rows = [row for points in lines.values() for _, row in points]
    numeric = all(type(value) in (int, float) for value in values)
    ticks = sorted(set(values)) if numeric else list(dict.fromkeys(map(str, values)))
    figure, axes = panels(len(metrics), 2.6)
    for axis, metric in zip(axes, metrics, strict=True):
        for i, (name, points) in enumerate(lines.items()):
            known = [(value, row.values[metric.name]) for value, row in points]
            known = [(value, found) for value, found in known if found.n]
            known.sort(key=lambda point: ticks.index(point[0] if numeric else str(point[0])))
            if not known:
                continue
            x = [value if numeric else ticks.index(str(value)) for value, _ in known]
            # Lines side by side, where the values are names and would lie on one another.
            x = x if numeric else [place + 0.08 * (i - (len(lines) - 1) / 2) for place in x]
            half = [found.half if np.isfinite(found.half) else 0 for _, found in known]
            axis.errorbar(
                x, [found.mean for _, found in known], half, marker="o", ms=4, capsize=3, lw=1.4,
                ls=DASHES[i // len(COLOURS) % len(DASHES)] if numeric else "none",
                color=COLOURS[i % len(COLOURS)], label=name,
            )  # fmt: skip
        axis.set(title=titled(metric), xlabel=field, ylabel=axis_label(metric))
        axis.set_ylim(span(rows, metric.name))
        if numeric and len(ticks) < 8:
            axis.set_xticks(ticks)
        if not numeric:
            axis.set_xticks(range(len(ticks)), ticks)
            axis.set_xlim(-0.5, len(ticks) - 0.5)
    if len(lines) > 1:
        legend(figure, axes)
    figure.suptitle(f"Against {field}: mean and 95 % interval over seeds")
    return figure


def loss_curves(rows: Sequence[Row]) -> "Figure | None":
    """Training losses of each setting: mean over seeds, from the lowest to the highest of them."""
    logged = {
        row.setting: [read_metrics(r.folder / "metrics.jsonl") for r in row.runs] for row in rows
    }
    names = [
        name
        for loss in LOSSES
        for name in (loss, f"val/{loss}")
        if any(name in line for runs in logged.values() for run in runs for line in run)
    ]
    if not names:
        return None
    figure, axes = panels(len(names), 2.4, columns=2)
    for axis, name in zip(axes, names, strict=True):
        for i, (setting, runs) in enumerate(logged.items()):
            by_step = defaultdict(list)
            for run in runs:
                for step, value in {r["step"]: r[name] for r in run if name in r}.items():
                    by_step[step].append(value)
            steps = sorted(by_step)
            style = {"color": COLOURS[i % len(COLOURS)], "ls": DASHES[i // len(COLOURS) % 4]}
            axis.plot(steps, [np.mean(by_step[s]) for s in steps], label=setting, lw=1.3, **style)
            low, high = ([end(by_step[s]) for s in steps] for end in (min, max))
            axis.fill_between(steps, low, high, color=style["color"], alpha=0.15, lw=0)
        title, label, _ = CURVES[name.removeprefix("val/")]
        axis.set(
            title=f"{title}{', held out' * name.startswith('val/')}", xlabel="step", ylabel=label
        )
    legend(figure, axes)
    figure.suptitle("Losses while training: mean over seeds, shaded from lowest to highest")
    return figure


def against_cost(
    rows: Sequence[Row], metrics: Sequence[Metric], cost: str, label: str
) -> "Figure | None":
    """A panel for each metric: its mean and interval against what a setting costs on average."""
    known = [row for row in rows if row.values.get(cost, estimate([])).n]
    if not metrics or len({row.values[cost].mean for row in known}) < 2:
        return None
    figure, axes = panels(len(metrics), 2.6)
    for axis, metric in zip(axes, metrics, strict=True):
        for i, row in enumerate(rows):
            if row not in known or not row.values[metric.name].n:
                continue
            x, y = row.values[cost], row.values[metric.name]
            axis.errorbar(
                x.mean, y.mean, yerr=np.nan_to_num(y.half),
                fmt="os^vDPX"[i // len(COLOURS) % 7], ms=5, capsize=2, lw=1.1,
                color=COLOURS[i % len(COLOURS)], label=row.setting,
            )  # fmt: skip
        axis.set(title=titled(metric), xlabel=label, ylabel=axis_label(metric))
        axis.set_ylim(span(rows, metric.name))
        axis.locator_params(axis="x", nbins=4)
    legend(figure, axes)
    figure.suptitle("What it costs and what it brings: means over seeds, intervals of the metric")
    return figure


def span(rows: Sequence[Row], metric: str) -> tuple[float, float] | None:
    """What an axis shows: all seeds and some room. Intervals of two seeds would drown them."""
    seeds = [run.metrics[metric] for row in rows for run in row.runs if metric in run.metrics]
    if not seeds or min(seeds) == max(seeds):
        return None
    room = 0.35 * (max(seeds) - min(seeds))
    return min(seeds) - room, max(seeds) + room


def titled(metric: Metric) -> str:
    """A metric and an arrow to where it is better."""
    return f"{metric.label} {'↑' if metric.better > 0 else '↓'}"


def axis_label(metric: Metric) -> str:
    """The unit of an axis; its title says of what."""
    return metric.unit or "no unit"


def panels(count: int, height: float, columns: int = 3, **options) -> tuple["Figure", list["Axes"]]:
    """A figure of its own, outside pyplot, with `count` panels, at most so many a row."""
    from matplotlib.figure import Figure

    width, columns = 11.7 * min(columns, count) / columns + 0.6, min(columns, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(width, height * lines + 0.7), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, **options).ravel()
    for axis in axes[count:]:
        axis.remove()
    return figure, list(axes[:count])


def legend(figure: "Figure", axes: Sequence["Axes"]) -> None:
    """One legend for all panels, below them: what the fullest one shows."""
    shown = [axis.get_legend_handles_labels() for axis in axes]
    handles, labels = max(shown, key=lambda panel: len(panel[1]))
    longest = max(map(len, labels), default=0)
    columns = max(1, min(len(labels), 110 // (longest + 6)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8.5)


def png(figure: "Figure") -> bytes:
    """For a document: on white."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return data.getvalue()


def svg(figure: "Figure") -> str:
    """For a page: no background, and text in the colour of the page's."""
    from matplotlib import rc_context

    data, nothing = io.StringIO(), {"Date": None, "Creator": None}
    with rc_context(RC):
        figure.savefig(data, format="svg", transparent=True, metadata=nothing)
    text = data.getvalue().replace(INK, "currentColor").replace("'DejaVu Sans'", "sans-serif")
    # Places to a hundredth of a point are enough; what stands between tags is for people.
    return re.sub(r"<[^>]+>", lambda tag: DECIMALS.sub(r"\1", tag[0]), text[text.index("<svg") :])
