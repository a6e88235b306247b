"""What labels must be for a head to learn from them, checked before anything is decoded."""

import collections
import math
from collections.abc import Sequence

from data_pipelines.labelled import LabelledClip
from echofm_jax.errors import InputError

SHOWN = 5  # names of clips in a message


def check_patients(clips: Sequence[LabelledClip]) -> None:
    """Raise InputError if a patient has clips in two of the owner's splits."""
    placed: dict[str, dict[str, str]] = collections.defaultdict(dict)  # patient: split: a clip
    for clip in clips:
        if clip.split:
            placed[clip.patient].setdefault(clip.split, clip.name)
    if torn := [splits for splits in placed.values() if len(splits) > 1]:
        pair = " and ".join(torn[0].values())
        raise InputError(
            f"{len(torn)} patients have clips in two splits, such as {pair}: give all clips of a "
            "patient one split"
        )


def check_classes(clips: Sequence[LabelledClip], target: str) -> tuple[str, ...]:
    """The classes of a target, sorted; none where it is a number.

    Raises:
      InputError: no clip has a value; a number that is not finite; numbers and names; only one
        value; a class of a single patient, who cannot be both trained on and tested.
    """
    known = [(clip, clip.targets[target]) for clip in clips if target in clip.targets]
    if not known:
        columns = ", ".join(sorted({name for clip in clips for name in clip.targets}))
        raise InputError(f"no clip has a value of {target}; columns: {columns or 'none'}")
    words = {value for _, value in known if isinstance(value, str)}
    unequal = [clip.name for clip, value in known if isinstance(value, str) != bool(words)]
    if unequal:
        raise InputError(f"{target}: {named(unequal)} have numbers, others names: give one kind")
    wrong = [clip.name for clip, value in known if not words and not math.isfinite(value)]
    if wrong:
        raise InputError(
            f"{target}: {named(wrong)} have no finite number: leave out what is not known"
        )
    if len(values := {value for _, value in known}) == 1:
        raise InputError(
            f"{target}: all {len(known)} clips have {values.pop()}: there is nothing to learn, "
            "label others"
        )
    patients = collections.defaultdict(set)
    for clip, value in known:
        patients[value if words else ""].add(clip.patient)
    if rare := sorted(f"'{name}'" for name, found in patients.items() if words and len(found) < 2):
        raise InputError(
            f"{target}: only one patient has {', '.join(rare)}: nobody can be trained on and "
            "tested: label clips of more patients, join it with another class, or leave it out; "
            "if patients are not told apart, name them"
        )
    return tuple(sorted(words))


def named(names: Sequence[str]) -> str:
    """`3 clips (a, b, c)`, the first of many."""
    more = ", …" if len(names) > SHOWN else ""
    return f"{len(names)} clips ({', '.join(names[:SHOWN])}{more})"
