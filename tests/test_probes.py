"""Heads on frozen features: what they find, and what they must not see."""

import numpy as np
import pytest

from echofm_jax import probes

RNG = np.random.default_rng(0)
PATIENTS = np.repeat([f"{i:02d}" for i in range(20)], 3)


def features(labels, noise=0.3):
    """[n, 8]: three classes in three directions."""
    x = noise * RNG.normal(size=(len(labels), 8))
    x[np.arange(len(labels)), labels] += 1
    return x


def test_linear_and_nearest_heads_find_classes():
    train, test = RNG.integers(3, size=60), RNG.integers(3, size=40)
    names = np.array(["A4C", "A2C", "PLAX"])
    x, at = features(train), features(test)
    for found in (
        probes.linear_labels(x, names[train], PATIENTS, at),
        probes.nearest_labels(x, names[train], at),
    ):
        assert (found == names[test]).mean() > 0.85
    assert set(probes.linear_labels(x[:5], np.repeat("A4C", 5), PATIENTS[:5], at)) == {"A4C"}


def test_a_common_class_does_not_win_by_being_common():
    """Weak features, and so a strong penalty: what they tell must still decide."""
    train, test = RNG.choice(3, 60, p=[0.6, 0.2, 0.2]), np.repeat([0, 1, 2], 100)
    found = probes.linear_labels(features(train, 2.5), train, PATIENTS, features(test, 2.5))
    assert all(0.15 < (found == name).mean() < 0.6 for name in range(3))
    assert (found == test).mean() > 0.38


def test_linear_and_nearest_heads_find_values():
    x, at = RNG.normal(size=(60, 4)), RNG.normal(size=(40, 4))
    y, truth = 50 + 8 * x[:, 0], 50 + 8 * at[:, 0]
    assert np.abs(probes.linear_values(x, y, PATIENTS, at) - truth).mean() < 1
    assert np.abs(probes.nearest_values(x, y, at) - truth).mean() < 4 < np.abs(truth - 50).mean()


def test_neighbours_lie_in_the_same_direction_however_far():
    x = np.array([[1.0, 0], [2, 0], [20, 14], [-10, -14], [-13, 0]])
    assert set(probes.nearest(x, np.array([[20.0, 1]]))[0, :2]) == {0, 1}


def test_folds_keep_patients_together():
    for fit, held in probes.folds(PATIENTS):
        assert not set(PATIENTS[fit]) & set(PATIENTS[held])
    assert probes.folds(["a", "a"]) is None


def test_a_clip_each_of_a_few_patients_is_enough_to_fit_on():
    """As with 1 % of a data set that has one clip of a patient; a warning is an error here."""
    x = RNG.normal(size=(3, 4))
    for patients in (["a", "b", "c"], ["a", "b", "b"]):
        assert probes.folds(patients) is None
        assert np.isfinite(probes.linear_values(x, np.arange(3.0), patients, x)).all()
        assert set(probes.linear_labels(x, np.array(["A4C", "A2C", "A4C"]), patients, x)) <= {
            "A2C",
            "A4C",
        }


def test_the_penalty_is_chosen_over_patients():
    """Features that tell who it is, not what: only folds by patient see that they are worthless."""
    who = np.repeat(np.eye(20), 3, axis=0) + 0.01 * RNG.normal(size=(60, 20))
    y = np.repeat(RNG.normal(size=20), 3)
    assert probes.fit_ridge(who, y, PATIENTS)[-1].alpha_ > 1e4
    assert probes.fit_ridge(who, y, [str(i) for i in range(60)])[-1].alpha_ < 100
    assert probes.linear_values(who, y, PATIENTS, who[:3]) == pytest.approx(y.mean(), abs=0.2)
