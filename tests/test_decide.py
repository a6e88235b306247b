import pytest
from test_split import SHARES, at

from data_pipelines.decide import decide
from data_pipelines.journal import Entry, Journal
from data_pipelines.one_file import Outcome
from echofm_jax.errors import InputError

TRAIN, VAL, TEST = at(10), at(85), at(95)


def entry(name: str, patient: str = "", split: str = "", clip: str = "", **more) -> Entry:
    outcome = Outcome(patient_id=patient, clip_id=clip or name, split=split, sizes=(9,), **more)
    return Entry(name, f"key {name}", outcome)


@pytest.fixture
def empty(tmp_path) -> Journal:
    return Journal(tmp_path, {}, [])


def splits(entries) -> dict[str, str]:
    return {e.name: e.outcome.split for e in entries}


def test_a_patient_goes_where_the_hash_lies(empty):
    entries, moved = decide([entry("a", TRAIN), entry("b", VAL), entry("c", TEST)], empty, SHARES)
    assert splits(entries) == {"a": "train", "b": "val", "c": "test"} and moved == 0


def test_the_owners_split_wins_for_all_clips_of_the_patient(empty):
    given = [entry("a", TRAIN), entry("b", TRAIN, "test"), entry("c", VAL, "train")]
    entries, moved = decide([*given, entry("d", at(83))], empty, SHARES)
    assert splits(entries) == {"a": "test", "b": "test", "c": "train", "d": "val"} and moved == 0


def test_a_patient_in_two_splits_is_refused(empty):
    with pytest.raises(InputError, match=f"clips in two splits.*{VAL}"):
        decide([entry("a", VAL, "test"), entry("b", VAL, "train")], empty, SHARES)
    kept, _ = decide([entry("a", VAL)], empty, SHARES)
    empty.append(kept)
    with pytest.raises(InputError, match="are in another one already"):
        decide([entry("b", VAL, "test")], empty, SHARES)


def test_whoever_has_moved_stays_there(empty):
    """A patient alone is trained on, and is so when others come whose hash says the same."""
    first, moved = decide([entry("a", VAL)], empty, SHARES)
    assert splits(first) == {"a": "train"} and moved == 1
    empty.append(first)
    second, moved = decide([entry("b", VAL), entry("c", at(86))], empty, SHARES)
    assert splits(second) == {"b": "train", "c": "val"} and moved == 0


def test_only_new_patients_move_to_fill_a_split(empty):
    empty.append(decide([entry("a", TRAIN)], empty, SHARES)[0])
    entries, moved = decide([entry("b", at(20)), entry("c", at(79))], empty, SHARES)
    assert splits(entries) == {"b": "train", "c": "val"} and moved == 1


def test_the_first_of_equal_clips_is_kept_over_all_runs(empty):
    entries, _ = decide([entry("a", TRAIN, clip="x"), entry("b", VAL, clip="x")], empty, SHARES)
    assert [e.outcome.reason for e in entries] == ["", "duplicate"]
    assert entries[1].outcome.sizes == ()
    empty.append(entries)
    entries, _ = decide([entry("0", TEST, clip="x")], empty, SHARES)
    assert entries[0].outcome.reason == "duplicate"


def test_rejected_files_are_not_compared(empty):
    given = [Entry(n, n, Outcome(reason="empty")) for n in "ab"]
    assert decide(given, empty, SHARES)[0] == given
