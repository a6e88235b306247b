"""Ejection fraction, view and rhythm from frozen features; fitted on other patients."""

import numpy as np
import pytest

from echofm_jax import frozen
from echofm_jax.frozen import Frozen


def recordings(patients, rng, **changes):
    """Two recordings of each patient; `good` features tell, `bad` ones say nothing."""
    patient = np.repeat([f"{p:02d}" for p in patients], 2)
    n = len(patient)
    view = np.array(["A4C", "PLAX"])[rng.integers(2, size=n)]
    rhythm = np.where(rng.random(n) < 0.5, "sinus", "atrial_fibrillation")
    fraction = rng.uniform(20, 70, n)
    told = [fraction / 10, view == "A4C", rhythm == "sinus"]
    good = np.stack(told, 1) + 0.05 * rng.normal(size=(n, 3))
    video = {"good": good, "bad": rng.normal(size=(n, 3))}
    known = {"view": view, "rhythm": rhythm, "ejection_fraction": fraction} | changes
    return Frozen(video, patient, known["view"], known["rhythm"], known["ejection_fraction"])


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    return recordings(range(30), rng), recordings(range(50, 70), rng)


def test_good_features_beat_bad_ones_and_chance(sides):
    found = {name: np.nanmean(values) for name, values in frozen.probe_measures(*sides).items()}
    assert found["ef_mae_good"] < 2 and found["view_accuracy_good"] > 0.95
    assert found["ef_knn_mae_good"] < 8 and found["view_knn_accuracy_good"] > 0.95
    assert found["ef_mae_bad"] > 9 and 0.2 < found["view_accuracy_bad"] < 0.8
    assert found["ef_mae_chance"] == pytest.approx(found["ef_mae_bad"], abs=2)
    assert 0.2 < found["view_accuracy_chance"] < 0.8
    assert found["ef_mae_good"] < found["ef_mae_10pct_good"] <= found["ef_mae_1pct_good"] + 2
    assert found["view_accuracy_1pct_good"] <= found["view_accuracy_good"]


def test_what_is_not_known_is_not_scored(sides):
    train, test = sides
    hidden = np.arange(len(test.view)) % 3 == 0
    partly = test._replace(
        view=np.where(hidden, "", test.view),
        ejection_fraction=np.where(hidden, np.nan, test.ejection_fraction),
    )
    found, every = frozen.probe_measures(train, partly), frozen.probe_measures(train, test)
    for name in ("ef_mae_good", "view_accuracy_good", "view_accuracy_chance"):
        assert np.isnan(found[name]).tolist() == hidden.tolist()
        np.testing.assert_array_equal(found[name][~hidden], every[name][~hidden])
    nothing = train._replace(view=np.repeat("", len(train.view)))
    assert not [name for name in frozen.probe_measures(nothing, test) if "view" in name]
    one = train.of(train.patient == "00")
    assert frozen.probe_measures(one, test) == {}


def test_a_view_that_train_does_not_show_is_missed(sides):
    train, test = sides
    found = frozen.probe_measures(train, test._replace(view=np.repeat("A2C", len(test.view))))
    assert (found["view_accuracy_good"] == 0).all()


def test_draws_are_of_patients():
    patients = np.repeat([f"{p:02d}" for p in range(40)], 2)
    drawn = frozen.draws(patients, 0.1)
    assert [len(rows) for rows in drawn] == [8] * frozen.DRAWS  # four patients, both recordings
    assert len({tuple(rows) for rows in drawn}) > 1
    assert {len(rows) for rows in frozen.draws(patients, 0.01)} == {4}  # two at least


def test_fibrillation_from_features_and_from_beats(sides):
    train, test = sides
    truth = test.rhythm == "atrial_fibrillation"
    irregular = {"read": np.where(truth, 0.2, 0.05), "missing": np.full(len(truth), np.nan)}
    found = frozen.fibrillation_measures(train, test, irregular)
    assert found["af_auroc_good"][0] > 0.97 and 0.2 < found["af_auroc_bad"][0] < 0.8
    low, high = found["af_auroc_bad"][1:]
    assert low < found["af_auroc_bad"][0] < high
    assert found["af_beats_auroc_read"] == (1, 1, 1)
    assert np.isnan(found["af_beats_auroc_missing"]).all()
    other = test._replace(rhythm=np.repeat("bigeminy", len(truth)))
    assert np.isnan(frozen.fibrillation_measures(train, other, irregular)["af_auroc_good"]).all()


def test_the_area_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores, truth = rng.integers(5, size=60).astype(float), rng.integers(2, size=60)  # with ties
    area, low, high = frozen.auroc(scores, truth, np.arange(60) // 3)
    assert area == pytest.approx(roc_auc_score(truth, scores)) and low < area < high
