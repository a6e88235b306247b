"""Ejection fraction, view and rhythm from frozen features: heads fitted on patients of `train`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from echofm_jax import phase, probes
from echofm_jax.phase_measures import RHYTHMS
from echofm_jax.recordings import Described, Recording

SHARES = {"1pct": 0.01, "10pct": 0.1}  # of the training patients
DRAWS = 5  # of those patients
PATIENTS = 2  # the least to fit on


class Frozen(NamedTuple):
    """n recordings as each source sees them, and what is known of them."""

    video: dict[str, np.ndarray]  # source: [n, 2F], `Described.video`
    patient: np.ndarray  # [n] hashes
    view: np.ndarray  # [n] names, empty = unknown
    rhythm: np.ndarray  # [n] names, empty = unknown
    ejection_fraction: np.ndarray  # [n] percent, nan = unknown

    def of(self, rows: np.ndarray) -> "Frozen":
        """Some of them."""
        video = {name: values[rows] for name, values in self.video.items()}
        return Frozen(video, *(field[rows] for field in self[1:]))


def frozen(found: Sequence[tuple[Recording, Described]]) -> Frozen:
    """Stack what was described of recordings."""
    video = {name: np.stack([d.video[name] for _, d in found]) for name in found[0][1].video}
    return Frozen(
        video,
        *(np.array([getattr(r, name) for r, _ in found]) for name in Frozen._fields[1:]),
    )


def probe_measures(train: Frozen, test: Frozen) -> dict[str, np.ndarray]:
    """Ejection fraction and view of each test recording: errors [n] in points, hits [n].

    nan where they are not known. `{task}_{source}` of linear heads, `…_knn_…` of nearest
    neighbours, `…_10pct_…` and `…_1pct_…` of linear heads fitted on so many patients (the mean
    over `DRAWS` choices of them), and chance: the mean and the commonest view of the training set.
    Tasks that either set knows nothing of are left out.
    """
    found = {}
    for name, linear, near, labels, score in (
        ("ef_mae", probes.linear_values, probes.nearest_values, "ejection_fraction", off),
        ("view_accuracy", probes.linear_labels, probes.nearest_labels, "view", right),
    ):
        task, measure = name.split("_")
        known = [labelled(getattr(part, labels)) for part in (train, test)]
        if len(set(train.patient[known[0]])) < PATIENTS or not known[1].any():
            continue
        fit, asked = train.of(known[0]), test.of(known[1])
        y, truth = getattr(fit, labels), getattr(asked, labels)

        def scored(values: np.ndarray, known=known[1], truth=truth, score=score) -> np.ndarray:
            every = np.full(len(known), np.nan)
            every[known] = score(values, truth)
            return every

        for source, x in fit.video.items():
            at = asked.video[source]
            found[f"{name}_{source}"] = scored(linear(x, y, fit.patient, at))
            found[f"{task}_knn_{measure}_{source}"] = scored(near(x, y, at))
            for share, part in SHARES.items():
                found[f"{name}_{share}_{source}"] = np.mean(
                    [
                        scored(linear(x[rows], y[rows], fit.patient[rows], at))
                        for rows in draws(fit.patient, part)
                    ],
                    axis=0,
                )
        found[f"{name}_chance"] = scored(np.repeat(usual(y), known[1].sum()))
    return found


def draws(patients: np.ndarray, share: float) -> list[np.ndarray]:
    """Rows of `DRAWS` random choices of a share of the patients, the same for every source."""
    rng = np.random.default_rng(0)
    there = np.unique(patients)
    count = max(PATIENTS, math.ceil(share * len(there)))
    return [
        np.flatnonzero(np.isin(patients, rng.choice(there, count, replace=False)))
        for _ in range(DRAWS)
    ]


def labelled(values: np.ndarray) -> np.ndarray:
    """[n] bool: where a label is known."""
    return np.isfinite(values) if values.dtype.kind == "f" else values != ""


def off(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance of values from the truth."""
    return np.abs(values - truth)


def right(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1 where a label is the true one, else 0."""
    return (values == truth).astype(float)


def usual(y: np.ndarray):
    """What to say of a recording without seeing it."""
    if y.dtype.kind == "f":
        return y.mean()
    names, counts = np.unique(y, return_counts=True)
    return names[counts.argmax()]


def fibrillation_measures(
    train: Frozen, test: Frozen, irregularities: dict[str, np.ndarray]
) -> dict[str, tuple[float, float, float]]:
    """AUROC of atrial fibrillation against sinus rhythm with its 95 % interval over patients.

    `af_auroc_*`: linear heads. `af_beats_auroc_*`: how irregular the beats are that were read
    from test recordings ({source: [n]}, nan: not read), without any head.
    """
    found = {}
    fit, asked = (np.isin(part.rhythm, list(RHYTHMS)) for part in (train, test))
    truth = (test.rhythm == "atrial_fibrillation").astype(float)
    y = (train.rhythm == "atrial_fibrillation").astype(float)
    if len(set(y[fit])) == 2:
        for source, x in train.video.items():
            scores = probes.linear_values(x[fit], y[fit], train.patient[fit], test.video[source])
            found[f"af_auroc_{source}"] = auroc(scores[asked], truth[asked], test.patient[asked])
    for source, values in irregularities.items():
        rows = asked & np.isfinite(values)
        found[f"af_beats_auroc_{source}"] = auroc(values[rows], truth[rows], test.patient[rows])
    return found


def auroc(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Area under the ROC curve of scores [n] for truth [n] 0 or 1; nan without both kinds."""

    def area(rows: np.ndarray) -> float:
        positive = truth[rows] == 1
        pairs = positive.sum() * (~positive).sum()
        if not pairs:
            return float("nan")
        won = rankdata(scores[rows])[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
        return float(won / pairs)  # Mann and Whitney's U; scikit-learn's takes 100 times as long

    return phase.bootstrap_statistic(area, groups)
