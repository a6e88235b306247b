"""Patients, never clips, are divided: the same for the same seed, with every class in train."""

import collections
import dataclasses

import pytest

from data_pipelines.labelled import LabelledClip
from data_pipelines.labelled_splits import few, folds, fraction, split_clips
from echofm_jax.errors import InputError


def clips(count, *, each=2, classes=("x",), splits=()):
    """`each` clips of every patient; classes and splits in turn, by patient."""
    return [
        LabelledClip(
            name=f"p{i}/{j}",
            patient=f"p{i}",
            split=splits[i % len(splits)] if splits else "",
            targets={"kind": classes[i % len(classes)]},
            read=None,
        )
        for i in range(count)
        for j in range(each)
    ]


def patients(some):
    return {clip.patient for clip in some}


def classes(some):
    return collections.Counter(clip.targets["kind"] for clip in some)


def whole(parts, known):
    """All clips are there, once, and nobody is in two parts."""
    names = sorted(clip.name for part in parts for clip in part)
    assert names == sorted(clip.name for clip in known)
    assert sum(len(patients(part)) for part in parts) == len(patients(known))


def test_shares_of_patients():
    known = clips(40)
    made = split_clips(known, seed=0)
    whole(made.values(), known)
    assert {split: len(patients(made[split])) for split in made} == {
        "train": 24, "val": 6, "test": 10,
    }  # fmt: skip
    again = split_clips(known[::-1], seed=0)
    other = split_clips(known, seed=1)
    assert {s: patients(c) for s, c in again.items()} == {s: patients(c) for s, c in made.items()}
    assert patients(other["test"]) != patients(made["test"])
    assert split_clips(known, seed=0, val=0)["val"] == []


def test_the_owner_has_the_say():
    known = clips(20, splits=("train", "train", "test", "val", ""))
    made = split_clips(known, seed=3)
    for split in ("test", "val"):
        assert patients(made[split]) == {c.patient for c in known if c.split == split}
    whole(made.values(), known)  # those that the owner left out are train


def test_val_comes_from_train_where_the_owner_has_none():
    known = clips(30, splits=("train", "train", "test"))
    made = split_clips(known, seed=0)
    assert patients(made["test"]) == {c.patient for c in known if c.split == "test"}
    assert len(patients(made["val"])) == 3 and len(patients(made["train"])) == 17  # 15 % of 20
    assert {c.split for c in made["val"]} == {"train"}


def test_classes_are_spread_evenly():
    known = clips(80, classes=("x", "x", "x", "rare"))
    for seed in range(5):
        made = split_clips(known, seed=seed, target="kind")
        assert classes(made["test"])["rare"] in (8, 10, 12)  # of 40 clips, a quarter of the rare
        assert classes(made["train"])["rare"] > 0


def test_train_keeps_a_patient_of_every_class():
    for seed in range(20):
        made = split_clips(clips(8, classes="abcd"), seed=seed, target="kind")
        assert set(classes(made["train"])) == set("abcd")


def test_too_few_patients():
    with pytest.raises(InputError, match="2 patients: too few to take 1 for val"):
        split_clips(clips(3, classes="ab"), seed=0, target="kind")
    with pytest.raises(InputError, match="1 patients: too few"):
        split_clips(clips(1, each=9), seed=0)


def test_folds_test_everybody_once():
    known = clips(23, classes=("x", "x", "rare"))
    made = folds(known, 5, 0, target="kind")
    whole([fold["test"] for fold in made], known)
    for fold in made:
        whole(fold.values(), known)
        assert classes(fold["test"])["rare"] in (2, 4) and classes(fold["train"])["rare"]
        assert len(patients(fold["val"])) == 3
    assert [patients(f["test"]) for f in folds(known[::-1], 5, 0, target="kind")] == [
        patients(f["test"]) for f in made
    ]
    assert folds(known, 5, 0, val=0)[0]["val"] == []


@pytest.mark.parametrize("k", [1, 4])
def test_as_many_folds_as_patients_at_most(k):
    with pytest.raises(InputError, match="of 3 patients: choose 2 to 3"):
        folds(clips(3), k, 0)


def test_a_smaller_share_is_part_of_a_larger_one():
    known = clips(200, classes=("x",) * 19 + ("rare",))
    shares = {s: patients(fraction(known, s, 7)) for s in (0.001, 0.01, 0.1, 0.5, 1.0)}
    assert [len(some) for some in shares.values()] == [1, 2, 20, 100, 200]
    assert all(a <= b for a, b in zip(shares.values(), list(shares.values())[1:], strict=False))
    assert len(fraction(known, 0.1, 7)) == 40  # all clips of a patient
    assert patients(fraction(known, 0.1, 8)) != shares[0.1]
    small = fraction(known, 0.001, 7, target="kind")
    assert set(classes(small)) == {"x", "rare"} and len(patients(small)) == 2
    assert patients(small) <= patients(fraction(known, 0.1, 7, target="kind"))


def test_so_many_examinations():
    known = clips(30, classes=("common",) * 9 + ("rare",))
    five = few(known, 5, 0, target="kind")
    assert len(five) == 10 and len(patients(five)) == 5
    assert classes(five)["rare"] in (4, 6)  # balanced, though it is a tenth of them
    assert len(patients(few(known, 4, 0, target="kind"))) == 4
    assert classes(few(known, 20, 0, target="kind"))["rare"] == 6  # all there are
    assert patients(few(known, 1, 0, target="kind")) < patients(five)
    assert patients(five) < patients(few(known, 10, 0, target="kind"))
    assert patients(few(known[::-1], 5, 0, target="kind")) == patients(five)
    assert patients(few(known, 5, 1, target="kind")) != patients(five)
    assert few(known, 30, 0) == known
    with pytest.raises(InputError, match="--studies 31: there are 30 to train on"):
        few(known, 31, 0)


def test_examinations_of_a_patient_are_several():
    """Of one patient a second is taken only when nobody is left who has none."""
    known = [dataclasses.replace(clip, study=f"s{i % 2}") for i, clip in enumerate(clips(10))]
    ten = few(known, 10, 0)
    assert len(ten) == 10 == len(patients(ten))
    assert len(few(known, 15, 0)) == 15


def test_a_view_of_everybodys_is_balanced():
    """An examination of all classes counts for each."""
    known = [
        dataclasses.replace(clip, targets={"kind": ("A4C", "PLAX")[i % 2]})
        for i, clip in enumerate(clips(6))
    ]
    assert classes(few(known, 3, 0, target="kind")) == {"A4C": 3, "PLAX": 3}
