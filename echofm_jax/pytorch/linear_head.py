"""A linear head in closed form: ridge or logistic regression, its strength chosen over patients.

Regressions by scikit-learn, on the principal components of what the head reads: with a penalty on
squared weights these lose nothing as long as there are as many as clips.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from echofm_jax.pytorch.head_echofm import ClipHead
from echofm_jax.pytorch.temporal_decoder import present

STRENGTHS = np.logspace(-6, 2, 17)  # of the penalty, by the mean squared length of a row
COMPONENTS = 1024
FLAT = 0.1  # of the typical spread: what varies less than that is not blown up
FOLDS = 5
THRESHOLD = 30.0  # of a grade's indicator: so large that its weight is hardly penalised


class Fitted(NamedTuple):
    """Weights in the space of the components, and the penalty that was chosen."""

    weight: np.ndarray  # [C, K]
    bias: np.ndarray  # [C], or of grades the thresholds
    strength: float


def standardise(head: ClipHead, maps: torch.Tensor) -> None:
    """Set what the head takes from maps [R, P, 2D] before it reads them."""
    mean, spread = of_steps(maps) if head.temporal else (maps.mean(0), maps.std(0, unbiased=False))
    typical = spread.square().mean().sqrt()
    head.mean.copy_(mean)
    if typical:  # else all that there is to learn from looks the same
        head.scale.copy_((spread.square() + (FLAT * typical).square()).sqrt())


def of_steps(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread [1, F] over the steps of recordings [R, S, F], some recordings a time."""
    sums = torch.zeros(2, maps.shape[-1], dtype=torch.float64)
    count = 0
    for part in maps.split(64):
        steps = part[present(part)].double()  # [steps, F]
        sums += torch.stack([steps.sum(0), steps.square().sum(0)])
        count += len(steps)
    mean, square = sums / count
    spread = (square - mean.square()).clamp(min=0).sqrt()
    return mean[None].float(), spread[None].float()


def fit_linear(
    head: ClipHead,
    maps: torch.Tensor,
    targets: np.ndarray,
    patients: Sequence[str],
    balanced: bool,
) -> float:
    """Set the head's weights from maps [R, P, 2D] and targets [R]; returns the penalty's strength.

    Targets are indices of names, or numbers as the head standardises them.
    """
    from sklearn.decomposition import PCA

    x = ((maps - head.mean) / head.scale).flatten(1).numpy()  # [R, F]
    with np.errstate(invalid="ignore"):  # variance of one clip, or of clips that look the same
        parts = PCA(min(COMPONENTS, *x.shape), svd_solver="auto", random_state=0).fit(x)
    z = parts.transform(x)  # [R, K]
    # In this unit STRENGTHS mean the same for every encoder.
    unit = np.sqrt(np.square(z).sum(1).mean()) or 1.0
    task, count = head.config.task, len(head.config.outputs)
    weights = class_weights(targets, count) if balanced and task != "number" else None
    fitted = choose(task, count, z / unit, targets, patients, weights)
    weight = fitted.weight @ parts.components_ / unit  # [C, F]
    shift = weight @ parts.mean_  # [C]
    with torch.no_grad():
        head.out.weight.copy_(torch.from_numpy(weight))
        if task == "grades":
            head.out.bias.copy_(torch.from_numpy(-shift))
            head.thresholds.copy_(torch.from_numpy(fitted.bias))
        else:
            head.out.bias.copy_(torch.from_numpy(fitted.bias - shift))
    return fitted.strength


def class_weights(targets: np.ndarray, count: int) -> np.ndarray:
    """[R] weights with which every class that there is weighs the same; their mean is 1."""
    counts = np.bincount(targets, minlength=count)
    return len(targets) / (np.count_nonzero(counts) * counts[targets])


def choose(
    task: str,
    count: int,
    z: np.ndarray,
    targets: np.ndarray,
    patients: Sequence[str],
    weights: np.ndarray | None,
) -> Fitted:
    """The regression whose strength lost least on patients that it was not fitted to."""
    from sklearn.model_selection import GroupKFold

    strength = float(STRENGTHS[len(STRENGTHS) // 2])
    if len(set(patients)) > 1:
        folds = list(GroupKFold(min(FOLDS, len(set(patients)))).split(z, groups=patients))
        losses = np.zeros(len(STRENGTHS))
        for fit, held in folds:
            for i, tried in enumerate(STRENGTHS):
                found = regress(task, count, z[fit], targets[fit], part(weights, fit), tried)
                losses[i] += loss(task, found, z[held], targets[held], part(weights, held))
        strength = float(STRENGTHS[losses.argmin()])
    return regress(task, count, z, targets, weights, strength)


def part(weights: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    """Of weights, if there are any."""
    return None if weights is None else weights[rows]


def regress(
    task: str,
    count: int,
    z: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
    strength: float,
) -> Fitted:
    """One regression of targets [R] on z [R, K]."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if task == "number":
        ridge = Ridge(alpha=strength * len(z)).fit(z, targets)
        return Fitted(ridge.coef_[None], np.array([ridge.intercept_]), strength)
    model = LogisticRegression(C=1 / (strength * len(z)), max_iter=1000, tol=1e-3)
    if task == "classes":
        seen = np.unique(targets)
        weight, bias = np.zeros((count, z.shape[1])), np.full(count, -30.0)  # never the answer
        if len(seen) == 1:
            bias[seen] = 0.0
            return Fitted(weight, bias, strength)
        model.fit(z, targets, sample_weight=weights)
        if len(seen) == 2:  # one function tells two classes apart
            weight[seen[1]], bias[seen] = model.coef_[0], (0.0, model.intercept_[0])
        else:
            weight[seen], bias[seen] = model.coef_, model.intercept_
        return Fitted(weight, bias, strength)
    # Proportional odds as one logistic regression: a row for each threshold, and whether the grade
    # lies above it.
    steps = np.repeat(np.arange(count - 1), len(z))
    rows = np.hstack([np.tile(z, (count - 1, 1)), THRESHOLD * np.eye(count - 1)[steps]])
    above = np.tile(targets, count - 1) > steps
    repeated = None if weights is None else np.tile(weights, count - 1)
    if above.all() or not above.any():  # one grade alone
        bound = np.where(np.arange(count - 1) < targets[0], -30.0, 30.0)
        return Fitted(np.zeros((1, z.shape[1])), bound, strength)
    model.set_params(fit_intercept=False).fit(rows, above, sample_weight=repeated)
    coefficients = model.coef_[0]
    limits = -THRESHOLD * coefficients[z.shape[1] :]
    return Fitted(coefficients[None, : z.shape[1]], np.sort(limits), strength)


def loss(
    task: str, found: Fitted, z: np.ndarray, targets: np.ndarray, weights: np.ndarray | None
) -> float:
    """Sum over rows z [R, K] of the squared error, or of the negative log-likelihood."""
    y = z @ found.weight.T  # [R, C]
    if task == "number":
        return float(np.square(y[:, 0] + found.bias - targets).sum())
    if task == "classes":
        y = y + found.bias
        lost = np.logaddexp.reduce(y, 1) - y[np.arange(len(y)), targets]
    else:
        y = y - found.bias  # [R, C-1]
        above = targets[:, None] > np.arange(y.shape[1])
        lost = np.logaddexp(0, np.where(above, -y, y)).sum(1)
    return float((lost if weights is None else lost * weights).sum())
