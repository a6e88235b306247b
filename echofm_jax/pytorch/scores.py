"""How good answers are, by torchmetrics, with intervals by bootstrap over patients."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

DRAWS = 500


class Score(NamedTuple):
    """A figure, and the 95 % interval over patients; NaN where it is not defined."""

    value: float
    low: float
    high: float


def strict(told: object) -> object:
    """Dictionaries and lists of figures as JSON knows them: what is not defined is null."""
    if isinstance(told, Mapping):
        return {name: strict(value) for name, value in told.items()}
    if isinstance(told, list):
        return [strict(value) for value in told]
    return None if isinstance(told, float) and not math.isfinite(told) else told


def mean(values: np.ndarray) -> float:
    """Of those that are known; nan where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def scores(
    task: str, outputs: Sequence[str], answers: np.ndarray, targets: np.ndarray,
    patients: Sequence[str],
) -> dict[str, Score]:  # fmt: skip
    """Scores of answers [R, names] (probabilities) or [R, 1] (the number) against targets [R]."""

    def figures(rows: np.ndarray) -> dict[str, float]:
        return measure(task, outputs, answers[rows], targets[rows])

    return with_intervals(figures, patients)


def measure(
    task: str, outputs: Sequence[str], answers: np.ndarray, targets: np.ndarray
) -> dict[str, float]:
    """The values of `scores` alone."""
    of = {"classes": of_classes, "grades": of_grades, "number": of_numbers}[task]
    return of(torch.from_numpy(answers), torch.from_numpy(targets), len(outputs))


def with_intervals(
    figures: Callable[[np.ndarray], Mapping[str, float]], patients: Sequence[str]
) -> dict[str, Score]:
    """`figures(rows)` of all rows, and of rows of patients that are drawn with replacement."""
    names, whose = np.unique(np.asarray(patients), return_inverse=True)
    own = [np.flatnonzero(whose == i) for i in range(len(names))]
    found = figures(np.arange(len(whose)))
    rng = np.random.default_rng(0)
    drawn = [
        figures(np.concatenate([own[i] for i in rng.integers(len(own), size=len(own))]))
        for _ in range(DRAWS)
    ]
    result = {}
    for name, value in found.items():
        values = np.array([figure[name] for figure in drawn])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, (0.025, 0.975)) if len(values) else (np.nan, np.nan)
        result[name] = Score(float(value), float(low), float(high))
    return result


def of_classes(p: torch.Tensor, targets: torch.Tensor, count: int) -> dict[str, float]:
    """Accuracy, balanced accuracy and macro F1 over the classes that there are, and AUROC."""
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_auroc,
        multiclass_f1_score,
    )

    told = p.argmax(1)
    there = torch.bincount(targets, minlength=count) > 0
    recall = multiclass_accuracy(told, targets, count, average="none", validate_args=False)
    f1 = multiclass_f1_score(told, targets, count, average="none", validate_args=False)
    area = float("nan")
    if there.sum() > 1:
        with warnings.catch_warnings():  # classes that this draw lacks are left out below
            warnings.simplefilter("ignore", UserWarning)
            areas = multiclass_auroc(p, targets, count, average="none", validate_args=False)
        area = float(areas[there].mean())
    return {
        "accuracy": float((told == targets).float().mean()),
        "balanced_accuracy": float(recall[there].mean()),
        "macro_f1": float(f1[there].mean()),
        "auroc": area,
    }


def of_grades(p: torch.Tensor, targets: torch.Tensor, count: int) -> dict[str, float]:
    """As of classes, quadratic kappa, and the AUROC of any disease and of the highest grade."""
    from torchmetrics.functional.classification import binary_auroc, multiclass_cohen_kappa

    found = of_classes(p, targets, count)
    ends = {
        "auroc_any": (1 - p[:, 0], targets > 0),
        "auroc_highest": (p[:, -1], targets == count - 1),
    }
    for name, (score, is_so) in ends.items():
        both = bool(is_so.any() and not is_so.all())
        found[name] = (
            float(binary_auroc(score, is_so.long(), validate_args=False)) if both else float("nan")
        )
    varied = len(torch.unique(torch.cat([targets, p.argmax(1)]))) > 1
    kappa = (
        multiclass_cohen_kappa(
            p.argmax(1), targets, count, weights="quadratic", validate_args=False
        )
        if varied
        else None
    )
    return found | {"quadratic_kappa": float("nan") if kappa is None else float(kappa)}


def of_numbers(y: torch.Tensor, targets: torch.Tensor, _count: int) -> dict[str, float]:
    """Mean absolute and root mean squared error, R², bias and limits of agreement."""
    from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

    y = y[:, 0].double()
    targets = targets.double()
    off = y - targets
    spread = float(off.std()) if len(off) > 1 else float("nan")
    varied = len(torch.unique(targets)) > 1
    return {
        "mae": float(mean_absolute_error(y, targets)),
        "rmse": float(mean_squared_error(y, targets, squared=False)),
        "r2": float(r2_score(y, targets)) if varied else float("nan"),
        "bias": float(off.mean()),
        "agreement_low": float(off.mean()) - 1.96 * spread,
        "agreement_high": float(off.mean()) + 1.96 * spread,
    }
