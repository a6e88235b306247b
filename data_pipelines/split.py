"""Patients, not clips, are divided into train, val and test; by hash, so that it never changes."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from data_pipelines.shards import SPLITS
from echofm_jax.errors import InputError


def parse_shares(text: str) -> tuple[float, ...]:
    """`80,10,10` → percent of patients for train, val and test.

    Raises:
      InputError: not three numbers that add up to 100 with something to train on.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != 3 or min(shares) < 0 or not shares[0] or not abs(sum(shares) - 100) < 1e-6:
        raise InputError(f"--split {text}: give three percentages that add up to 100, as 80,10,10")
    return shares


def position(patient: str) -> float:
    """A patient's hash (hexadecimal digits) → its place in [0, 100)."""
    digits = patient[:12]  # 48 bits: exact as a float, so that the last place is below 100
    return int(digits, 16) / 16 ** len(digits) * 100


def split_of(patient: str, shares: Sequence[float]) -> str:
    """The split of a patient's hash: the interval of `shares` that it falls into."""
    place = position(patient)
    if place < shares[0]:
        return "train"
    return "val" if place < shares[0] + shares[1] else "test"


def fill_empty(
    patients: Sequence[str],
    shares: Sequence[float],
    fixed: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Patients that must change their split so that train, then val, are not empty.

    A handful of patients can all fall into one split; then those whose hash lies nearest to the
    interval that wants one move. Whoever is in `fixed` (patient → split) stays there.

    Returns:
      {patient: its new split}, usually nothing.
    """
    places = {p: split_of(p, shares) for p in set(patients)} | fixed
    moved: dict[str, str] = {}
    for wanted in SPLITS[:2]:
        share = shares[SPLITS.index(wanted)]
        if not share or wanted in places.values():
            continue
        edges = (0.0, shares[0]) if wanted == "train" else (shares[0], shares[0] + shares[1])
        # The only patient of `train` stays there; all others are free to train on.
        splits = list(places.values())
        free = [
            p
            for p, split in places.items()
            if p not in fixed and (split != "train" or splits.count(split) > 1)
        ]
        if free:
            nearest = min(free, key=lambda p: (min(abs(position(p) - e) for e in edges), p))
            places[nearest] = moved[nearest] = wanted
    return moved
