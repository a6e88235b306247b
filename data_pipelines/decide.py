"""Outcomes of files → what the journal says of them: duplicates told, patients in their splits."""

from collections.abc import Sequence

from data_pipelines import split
from data_pipelines.journal import Entry, Journal
from data_pipelines.one_file import Outcome
from echofm_jax.errors import InputError


def decide(
    entries: Sequence[Entry], journal: Journal, shares: Sequence[float]
) -> tuple[list[Entry], int]:
    """Entries as they will be kept, and how many patients moved to fill an empty split.

    A patient stays where the journal has them; else goes where the files' owner put them; else
    where their hash lies.

    Raises:
      InputError: the owner put clips of one patient into two splits.
    """
    fixed = {e.outcome.patient_id: e.outcome.split for e in journal.accepted}
    seen = {e.outcome.clip_id for e in journal.accepted}
    unique = []
    for entry in entries:
        outcome = entry.outcome
        if not outcome.reason and outcome.clip_id in seen:
            outcome = Outcome(reason="duplicate", detail="same pixels", clip_id=outcome.clip_id)
        seen.add(outcome.clip_id)
        unique.append(entry._replace(outcome=outcome))
    accepted = [e.outcome for e in unique if not e.outcome.reason]
    torn = {
        o.patient_id for o in accepted
        if o.split and fixed.setdefault(o.patient_id, o.split) != o.split
    }  # fmt: skip
    if torn:
        raise InputError(
            f"{len(torn)} patients have clips in two splits by their labels, or are in another "
            f"one already (patient_id {min(torn)}): give all clips of a patient one split"
        )
    patients = [o.patient_id for o in accepted]
    moved = split.fill_empty(patients, shares, fixed)
    places = {p: split.split_of(p, shares) for p in patients} | fixed | moved
    return [
        Entry(name, key, o if o.reason else o._replace(split=places[o.patient_id]))
        for name, key, o in unique
    ], len(moved)
