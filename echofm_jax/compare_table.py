"""Settings against metrics: mean and interval over seeds, differences by seed, the best marked."""

import csv
import dataclasses
import difflib
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from echofm_jax import config as configs
from echofm_jax.compare_runs import Run
from echofm_jax.errors import InputError
from echofm_jax.measures import SHOWN
from echofm_jax.sweep_file import HOW

COST = {  # what a run took: (what it is, its unit)
    "hours": ("training time", "h"),
    "cpu_hours": ("training, processor time", "CPU hours"),
    "parameters": ("parameters", "million"),
}
LOSSES = ("loss", "recon", "triplet", "cycle")
# What no model decides, or an untrained one: to be read beside the metrics of the same name.
REFERENCES = ("_pixels", "_random", "_chance", "_patch_mean", "_truth")
LOWER = (
    "error", "frames", "mae", "rmse", "hours", "parameters", "hausdorff95", "missed",
)  # fmt: skip
HIGHER = (
    "psnr", "ssim", "accuracy", "auc", "auroc", "r2", "found", "dice", "iou", "sensitivity",
    "specificity",
)  # fmt: skip


class Metric(NamedTuple):
    """A column of the table."""

    name: str
    label: str
    unit: str
    better: int  # 1: more is better, -1: less is, 0: neither, so no value is the best


class Estimate(NamedTuple):
    """A mean over seeds, and half of its 95 % interval (t distribution; nan of one seed)."""

    mean: float
    half: float
    n: int

    def __str__(self) -> str:
        if not self.n:
            return "missing"
        return number(self.mean, 4) + (
            f" ± {number(self.half, 2)}" if np.isfinite(self.half) else ""
        )


def number(value: float, digits: int) -> str:
    """A number to so many digits, but all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A setting in the table."""

    setting: str
    runs: Sequence[Run]
    values: Mapping[str, Estimate]  # by metric
    differences: Mapping[str, Estimate]  # from the baseline, by seed; empty without one
    best: frozenset[str]  # metrics in which no other setting's mean is better

    @property
    def done(self) -> int:
        """Runs that are evaluated."""
        return sum(bool(run.metrics) for run in self.runs)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of what is known, with the interval that so few seeds allow."""
    n = len(values)
    if n < 2:
        return Estimate(float(values[0]) if n else float("nan"), float("nan"), n)
    mean, spread = np.mean(values), np.std(values, ddof=1)
    if spread < 1e-9 * np.abs(values).max():  # rounding
        spread = 0.0
    return Estimate(float(mean), float(stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n)), n)


def metrics_of(runs: Sequence[Run]) -> list[Metric]:
    """The metrics that at least one run has: those that can be better first, then cost."""
    there = {name for run in runs for name in run.metrics}
    order = [*SHOWN, *sorted(there - SHOWN.keys() - COST.keys())]
    same_loss = not any(field.startswith("objective.") for field in differing(runs))
    labels, whole = {}, ""
    for name, (label, unit, *_) in (SHOWN | COST).items():
        whole = label if not label.startswith(" ") else whole
        labels[name] = (label if label == whole else f"{whole}: {label.strip()}", unit)
    made = []
    for name in [name for name in (*order, *COST) if name in there]:
        *head, score = name.replace("_", " ").split("/")
        label, unit = labels.get(name, (": ".join(filter(None, [", ".join(head), score])), ""))
        made.append(Metric(name, label, unit, direction(name, same_loss)))
    return sorted(made, key=lambda m: (not m.better, m.name in COST))


def chosen(metrics: Sequence[Metric], names: Sequence[str]) -> list[Metric]:
    """Those whose name begins with one of `names`, in their order; InputError if one fits none.

    What an evaluation can have and no run does is left out.
    """
    known = [*SHOWN, *COST, *(metric.name for metric in metrics)]
    for name in names:
        if not any(one.startswith(name) for one in known):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else "see runs.csv for those there are"
            raise InputError(f"--metrics {name}: there is no such metric: {hint}")
    return list(dict.fromkeys(m for name in names for m in metrics if m.name.startswith(name)))


def direction(name: str, same_loss: bool) -> int:
    """Whether more (1) or less (-1) of a metric is better; 0 if neither or nobody can say."""
    words = re.split(r"[._/]", name)
    if name.endswith(REFERENCES):
        return 0
    if name in LOSSES:  # of different objectives they are different things
        return -1 if same_loss else 0
    return -1 if set(words) & set(LOWER) else 1 if set(words) & set(HIGHER) else 0


def differing(runs: Sequence[Run]) -> list[str]:
    """The config fields in which settings differ."""
    flat = [configs.leaves(run.config) for run in runs]
    return [
        field
        for field in dict.fromkeys(itertools.chain(*flat))
        if field not in (*HOW, "seed", "data.dir")
        and any(other.get(field) != flat[0].get(field) for other in flat)
    ]


def rows_of(runs: Sequence[Run], metrics: Sequence[Metric], baseline: str | None) -> list[Row]:
    """A row for each setting; raises InputError for an unknown baseline."""
    settings: dict[str, list[Run]] = {}
    for run in runs:
        settings.setdefault(run.setting, []).append(run)
    if baseline is not None and baseline not in settings:
        near = difflib.get_close_matches(baseline, settings, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"choose of {', '.join(settings)}"
        raise InputError(f"--baseline {baseline}: no such setting: {hint}")
    by_seed = {  # setting → metric → seed → value
        setting: {
            m.name: {run.seed: run.metrics[m.name] for run in group if m.name in run.metrics}
            for m in metrics
        }
        for setting, group in settings.items()
    }
    values = {
        setting: {name: estimate(list(seeds.values())) for name, seeds in found.items()}
        for setting, found in by_seed.items()
    }
    return [
        Row(
            setting=setting,
            runs=group,
            values=values[setting],
            differences={
                m.name: paired(by_seed[setting][m.name], by_seed[baseline][m.name])
                for m in metrics
                if baseline is not None and setting != baseline
            },
            best=frozenset(m.name for m in metrics if is_best(setting, m, values)),
        )
        for setting, group in settings.items()
    ]


def paired(mine: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate:
    """The difference of two settings over the seeds that both have."""
    return estimate([mine[seed] - theirs[seed] for seed in mine if seed in theirs])


def is_best(setting: str, metric: Metric, values: Mapping[str, Mapping[str, Estimate]]) -> bool:
    """Whether no other setting's mean is better, and not all are equal."""
    means = {s: v[metric.name].mean * metric.better for s, v in values.items() if v[metric.name].n}
    if not metric.better or setting not in means or len({*means.values()}) < 2:
        return False
    return means[setting] == max(means.values())


def differs(difference: Estimate) -> bool:
    """Whether an interval of a difference leaves out zero; seeds that all agree give none."""
    return bool(abs(difference.mean) > difference.half > 0)


def as_text(rows: Sequence[Row], metrics: Sequence[Metric], baseline: str | None) -> str:
    """What a person reads in a terminal: a block for each metric, a line for each setting."""
    width = max(len(row.setting) for row in rows)
    lines = []
    for metric in metrics:
        if metric.name.endswith(REFERENCES):
            continue
        aim = {1: ", more is better", -1: ", less is better", 0: ""}[metric.better]
        lines.append(f"{metric.label}{f' ({metric.unit})' if metric.unit else ''}{aim}")
        for row in rows:
            value = row.values[metric.name]
            of = f"{value.n} of {len(row.runs)}" if value.n < len(row.runs) else f"{value.n}"
            best = "best" * (metric.name in row.best)
            line = f"  {row.setting:{width}s}  {value!s:20s} {best:5s}n={of}"
            if (change := row.differences.get(metric.name)) and change.n:
                line = f"{line:{width + 42}s}{signed(change)}{' *' * differs(change)}"
            lines.append(line.rstrip())
    lines.append("mean ± half of the 95 % interval over seeds (t distribution)")
    if baseline is not None:
        lines.append(
            f"last column: difference from {baseline} by seed; * where its interval leaves out 0"
        )
    return "\n".join(lines)


def signed(change: Estimate) -> str:
    """A difference with its sign."""
    return ("+" if change.mean >= 0 else "") + str(change)


def as_csv(rows: Sequence[Row], metrics: Sequence[Metric]) -> str:
    """The table, a line for each setting and metric; what is not known is empty."""
    head = ("setting", "metric", "unit", "n", "runs", "mean", "low", "high", "best",
            "difference", "difference_low", "difference_high", "pairs")  # fmt: skip
    lines: list[Sequence] = [head]
    for row in rows:
        for metric in metrics:
            value, change = row.values[metric.name], row.differences.get(metric.name)
            lines.append([
                row.setting, metric.name, metric.unit, value.n, len(row.runs), *bounds(value),
                int(metric.name in row.best), *(bounds(change) if change else ("", "", "")),
                change.n if change else "",
            ])  # fmt: skip
    return _csv(lines)


def bounds(value: Estimate) -> list[float | str]:
    """Mean and both ends of its interval, "" for what is not known."""
    found = (value.mean, value.mean - value.half, value.mean + value.half)
    return [x if np.isfinite(x) else "" for x in found]


def runs_csv(runs: Sequence[Run], metrics: Sequence[Metric]) -> str:
    """Every run: its fields that differ, how far it is, its metrics; missing ones are empty."""
    fields = differing(runs)
    lines: list[Sequence] = [["setting", "seed", *fields, "state", *(m.name for m in metrics)]]
    for run in runs:
        flat = configs.leaves(run.config)
        lines.append([
            run.setting, run.seed, *(flat.get(field, "") for field in fields), run.state,
            *(run.metrics.get(m.name, "") for m in metrics),
        ])  # fmt: skip
    return _csv(lines)


def _csv(lines: Sequence[Sequence]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
