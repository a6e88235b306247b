import pytest

from data_pipelines import split
from echofm_jax.errors import InputError

SHARES = (80.0, 10.0, 10.0)


def at(percent: float) -> str:
    """The hash that lies at so many percent."""
    return f"{int(percent / 100 * 16**16):016x}"


@pytest.mark.parametrize(
    "text", ["80,10", "80,10,20", "a,b,c", "", "110,-20,10", "0,50,50", "nan,0,0"]
)
def test_wrong_shares(text):
    with pytest.raises(InputError, match="--split"):
        split.parse_shares(text)


def test_shares():
    assert split.parse_shares("80,10,10") == SHARES
    assert split.parse_shares("33.3, 33.3, 33.4") == (33.3, 33.3, 33.4)
    assert split.parse_shares("100,0,0") == (100, 0, 0)


def test_thresholds():
    places = {0: "train", 79.99: "train", 80.01: "val", 89.99: "val", 90.01: "test"}
    assert {p: split.split_of(at(p), SHARES) for p in places} == places
    assert split.split_of("f" * 16, SHARES) == "test"
    assert split.split_of("f" * 16, (100, 0, 0)) == "train"


def test_shares_are_met_over_many_patients():
    """Real hashes: the split is that of the hash alone, and as large as asked for."""
    from data_pipelines.deidentify import patient_hash

    splits = [split.split_of(patient_hash(b"s" * 32, str(i)), SHARES) for i in range(5000)]
    assert splits.count("train") == pytest.approx(4000, abs=120)
    assert splits.count("val") == pytest.approx(500, abs=90)


def after(patients, shares=SHARES):
    """Splits of all patients when the empty ones have been filled."""
    moved = split.fill_empty(patients, shares)
    assert moved == split.fill_empty(patients[::-1], shares)  # the order says nothing
    assert moved == split.fill_empty(patients * 3, shares)  # nor does how many clips one has
    assert all(moved[p] != split.split_of(p, shares) for p in moved)
    return {p: moved.get(p) or split.split_of(p, shares) for p in patients}


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        ([10], ["train"]),
        ([85], ["train"]),  # a single patient is trained on
        ([95], ["train"]),
        ([10, 70], ["train", "val"]),
        ([85, 95], ["train", "val"]),
        ([83, 87], ["train", "val"]),
        ([92, 98], ["train", "val"]),
        ([10, 85], ["train", "val"]),
        ([10, 95], ["train", "val"]),
        ([10, 20, 79], ["train", "train", "val"]),
        ([82, 85, 88], ["train", "val", "val"]),
        ([91, 95, 99], ["train", "val", "test"]),
        ([10, 85, 95], ["train", "val", "test"]),
        ([], []),
    ],
)
def test_no_needed_split_stays_empty(places, wanted):
    patients = [at(place) for place in places]
    assert list(after(patients).values()) == wanted


def test_a_split_of_no_share_stays_empty():
    assert list(after([at(10), at(70)], (100, 0, 0)).values()) == ["train", "train"]
