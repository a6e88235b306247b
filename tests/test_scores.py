"""Scores of clip heads against scikit-learn; what is not defined is NaN, not a warning."""

import math

import numpy as np
import pytest
from sklearn import metrics

from echofm_jax.pytorch.scores import measure, scores, strict, with_intervals

NAMES = ("a", "b", "c")


def probabilities(count: int, targets: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """[R, 3], better than chance where there are targets."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(count, 3))
    if targets is not None:
        raw[np.arange(count), targets] += 1
    return np.exp(raw) / np.exp(raw).sum(1, keepdims=True)


def test_classes():
    y = np.random.default_rng(1).integers(0, 3, 60)
    p = probabilities(60, y)
    found, told = measure("classes", NAMES, p, y), p.argmax(1)
    expected = {
        "accuracy": metrics.accuracy_score(y, told),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, told),
        "macro_f1": metrics.f1_score(y, told, average="macro"),
        "auroc": metrics.roc_auc_score(y, p, multi_class="ovr"),
    }
    assert found == pytest.approx(expected, abs=1e-6) and found["auroc"] > 0.6


def test_a_class_that_is_not_there_does_not_count():
    y = np.random.default_rng(1).integers(0, 2, 60)
    p = probabilities(60, y)
    found, told = measure("classes", NAMES, p, y), p.argmax(1)
    assert 2 in told
    recall = metrics.recall_score(y, told, labels=[0, 1], average="macro")
    f1 = metrics.f1_score(y, told, labels=[0, 1], average="macro")
    area = np.mean([metrics.roc_auc_score(y == i, p[:, i]) for i in (0, 1)])
    assert found["balanced_accuracy"] == pytest.approx(recall)
    assert found["macro_f1"] == pytest.approx(f1)
    assert found["auroc"] == pytest.approx(area)


def test_grades():
    y = np.random.default_rng(2).integers(0, 3, 50)
    p = probabilities(50, y)
    found = measure("grades", NAMES, p, y)
    kappa = metrics.cohen_kappa_score(y, p.argmax(1), weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(kappa)
    assert found["auroc_any"] == pytest.approx(metrics.roc_auc_score(y > 0, 1 - p[:, 0]))
    assert found["auroc_highest"] == pytest.approx(metrics.roc_auc_score(y == 2, p[:, 2]))
    assert measure("classes", NAMES, p, y).items() <= found.items()


def test_numbers():
    rng = np.random.default_rng(3)
    y = rng.normal(55, 10, 40)
    told = y + rng.normal(2, 4, 40)
    off = told - y
    expected = {
        "mae": metrics.mean_absolute_error(y, told),
        "rmse": metrics.root_mean_squared_error(y, told),
        "r2": metrics.r2_score(y, told),
        "bias": off.mean(),
        "agreement_low": off.mean() - 1.96 * off.std(ddof=1),
        "agreement_high": off.mean() + 1.96 * off.std(ddof=1),
    }
    assert measure("number", ("%",), told[:, None], y) == pytest.approx(expected)


ONE_CLASS = np.ones(4, int)
EDGES = {
    "one class": ("classes", probabilities(4), ONE_CLASS, {"auroc"}),
    "one clip": ("classes", probabilities(1), ONE_CLASS[:1], {"auroc"}),
    "one grade, told right": (
        "grades", np.tile([0.1, 0.8, 0.1], (4, 1)), ONE_CLASS,
        {"auroc", "auroc_any", "auroc_highest", "quadratic_kappa"},
    ),
    "one grade, told variously": (
        "grades", probabilities(4), ONE_CLASS, {"auroc", "auroc_any", "auroc_highest"},
    ),
    "constant truth": ("number", np.arange(4.0)[:, None], np.full(4, 55.0), {"r2"}),
    "constant answer": ("number", np.full((4, 1), 55.0), np.arange(4.0), set()),
    "one number": (
        "number", np.ones((1, 1)), np.ones(1), {"r2", "agreement_low", "agreement_high"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_what_is_not_defined(name):
    task, answers, targets, undefined = EDGES[name]
    found = scores(task, NAMES, answers, targets, [str(i) for i in range(len(targets))])
    assert {key for key, score in found.items() if math.isnan(score.value)} == undefined
    for key, score in found.items():
        assert math.isnan(score.low) == math.isnan(score.high) == (key in undefined)


def test_draws_without_a_class_are_left_out():
    y = np.array([0, 0, 0, 1])
    p = np.stack([1 - np.array([0.1, 0.2, 0.6, 0.5]), [0.1, 0.2, 0.6, 0.5]], 1)
    area = scores("classes", ("a", "b"), p, y, list("pqrs"))["auroc"]
    assert area.value == pytest.approx(2 / 3)
    assert 0 <= area.low <= area.value <= area.high <= 1


def test_intervals_are_over_patients():
    """Clips of one patient are no new evidence; one patient alone tells no spread."""
    rng = np.random.default_rng(0)
    whose = np.repeat(np.arange(20), 10)
    off = rng.normal(size=20)[whose] + 0.01 * rng.normal(size=200)

    def mean(rows):
        return {"mean": off[rows].mean()}

    by_patient = with_intervals(mean, [f"p{i}" for i in whose])["mean"]
    by_clip = with_intervals(mean, [str(i) for i in range(200)])["mean"]
    assert by_patient.value == by_clip.value == pytest.approx(off.mean())
    expected = 2 * 1.96 * off.reshape(20, 10).mean(1).std() / np.sqrt(20)
    assert by_patient.high - by_patient.low == pytest.approx(expected, rel=0.15)
    assert by_clip.high - by_clip.low < 0.5 * expected
    assert with_intervals(mean, [f"p{i}" for i in whose])["mean"] == by_patient
    alone = with_intervals(mean, ["p"] * 200)["mean"]
    assert alone.low == alone.high == pytest.approx(alone.value)


def test_what_is_not_defined_is_null_in_json():
    told = {"a": {"value": float("nan"), "low": 1.5}, "b": [float("inf"), "x"], "c": 0}
    assert strict(told) == {"a": {"value": None, "low": 1.5}, "b": [None, "x"], "c": 0}
