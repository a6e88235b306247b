"""Labels from which a head cannot learn are refused, in words that help."""

import math

import pytest

from data_pipelines.labelled import LabelledClip
from data_pipelines.labelled_checks import check_classes, check_patients
from echofm_jax.errors import InputError


def clips(*known, target="view"):
    """(patient, value) or (patient, value, split) each; None: unknown."""
    return [
        LabelledClip(
            name=f"c{i}", patient=patient, split=(*split, "")[0], read=None,
            targets={} if value is None else {target: value},
        )
        for i, (patient, value, *split) in enumerate(known)
    ]  # fmt: skip


def test_classes_and_numbers():
    known = clips(("a", "PLAX"), ("b", "A4C"), ("c", "PLAX"), ("d", "A4C"), ("e", None))
    assert check_classes(known, "view") == ("A4C", "PLAX")
    assert check_classes(clips(("a", 1.0), ("b", 2.0)), "view") == ()


WRONG = [
    ([("a", None)], "no clip has a value of ef; columns: none"),
    ([("a", 1.0), ("b", math.nan), ("c", math.inf)], r"ef: 2 clips \(c1, c2\) have no finite"),
    ([("a", 1.0), ("b", "x")], r"1 clips \(c0\) have numbers, others names"),
    ([("a", 1.0), ("b", 1.0)], "all 2 clips have 1.0: there is nothing to learn"),
    ([("a", "x"), ("b", "x")], "all 2 clips have x: there is nothing"),
    ([("a", "x"), ("a", "x"), ("b", "y"), ("c", "y"), ("d", "z")], "only one patient has 'x', 'z'"),
    ([(str(i), math.nan) for i in range(9)], r"9 clips \(c0, c1, c2, c3, c4, …\)"),
]


@pytest.mark.parametrize(("known", "what"), WRONG)
def test_what_is_wrong_is_told(known, what):
    with pytest.raises(InputError, match=what) as caught:
        check_classes(clips(*known, target="ef"), "ef")
    assert "\n" not in str(caught.value)


def test_the_columns_that_there_are_are_named():
    with pytest.raises(InputError, match="of EF; columns: ef"):
        check_classes(clips(("a", 1.0), target="ef"), "EF")


def test_a_patient_in_two_splits():
    check_patients(clips(("a", "x", "train"), ("a", "x", ""), ("b", "x", "test")))
    torn = [("a", "x", "train"), ("a", "x", "test"), ("b", "x", "val"), ("b", "x", "test")]
    with pytest.raises(InputError, match="2 patients have clips in two splits, such as c0 and c1:"):
        check_patients(clips(*torn))
