"""Patients of labelled clips into train, val and test, into folds, and a share of them.

Everything is by patient, and follows from the seed and the patients' names alone.
"""

import collections
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from data_pipelines.labelled import LabelledClip
from data_pipelines.shards import SPLITS
from echofm_jax.errors import InputError

Clips = list[LabelledClip]


def split_clips(
    clips: Sequence[LabelledClip],
    *,
    seed: int,
    val: float = 0.15,
    test: float = 0.25,
    target: str = "",
) -> dict[str, Clips]:
    """{train, val, test: clips}: as the owner says; where nobody does, by patient.

    Where the owner has some splits, those without one are train, and of a missing val or test its
    share of train's patients is taken. Of each class of `target` a patient stays in train.

    Args:
      clips: all clips.
      seed: another one draws other patients.
      val: share of patients; 0: none.
      test: likewise.
      target: classes that are spread evenly over the splits.

    Raises:
      InputError: too few patients.
    """
    places = {clip.patient: "train" for clip in clips}
    places |= {clip.patient: clip.split for clip in clips if clip.split}
    pool = _pool(places)
    for split, share in (("test", test), ("val", val)):
        if share and split not in places.values():
            _take(places, clips, split, max(1, round(share * len(pool))), seed, target)
    return _by_split(clips, places)


def folds(
    clips: Sequence[LabelledClip], k: int, seed: int, *, val: float = 0.15, target: str = ""
) -> list[dict[str, Clips]]:
    """k times {train, val, test}, each patient in one test; the owner's splits do not count.

    `val` is the share of the remaining patients that each fold keeps to choose by; 0: none.

    Raises:
      InputError: fewer than two folds, or fewer patients than folds.
    """
    ordered = _stratified(clips, {clip.patient for clip in clips}, seed, target)
    if not 2 <= k <= len(ordered):
        raise InputError(f"{k} folds of {len(ordered)} patients: choose 2 to {len(ordered)}")
    made = []
    for fold in range(k):
        places = {p: "test" if i % k == fold else "train" for i, p in enumerate(ordered)}
        if val:
            pool = _pool(places)
            _take(places, clips, "val", max(1, round(val * len(pool))), seed, target)
        made.append(_by_split(clips, places))
    return made


def fraction(clips: Sequence[LabelledClip], share: float, seed: int, *, target: str = "") -> Clips:
    """Clips of a share of the patients, 0 < share ≤ 1; a smaller share is part of a larger one.

    At least one patient, and of each class of `target` one who has it.
    """
    ordered = sorted({clip.patient for clip in clips}, key=lambda p: _hash(seed, p))
    classes = _classes(clips, target)
    first, seen = [], set()
    for patient in ordered:
        if not classes[patient] <= seen:
            first.append(patient)
            seen |= classes[patient]
    ordered = first + [patient for patient in ordered if patient not in set(first)]
    kept = set(ordered[: max(1, len(first), round(share * len(ordered)))])
    return [clip for clip in clips if clip.patient in kept]


def few(clips: Sequence[LabelledClip], count: int, seed: int, *, target: str = "") -> Clips:
    """Clips of `count` examinations, of the classes of `target` in turn; fewer are part of more.

    A patient's clips that name no examination are one. A second of a patient comes after others'
    first ones.

    Raises:
      InputError: there are not so many.
    """
    studies = collections.defaultdict(list)
    for clip in clips:
        studies[clip.patient, clip.study].append(clip)
    if count > len(studies):
        raise InputError(f"--studies {count}: there are {len(studies)} to train on: ask for fewer")
    held = {
        study: {str(c.targets[target]) for c in own if target in c.targets} or {""}
        for study, own in studies.items()
    }
    left = sorted(studies, key=lambda study: _hash(seed, repr(study)))
    shown = dict.fromkeys(set().union(*held.values()), 0)  # studies of each class so far
    patients = collections.Counter()
    chosen = []
    for _ in range(count):
        # Of those that show what was shown least often, one of a patient who was chosen least.
        best = min(left, key=lambda s: (min(shown[name] for name in held[s]), patients[s[0]]))
        left.remove(best)
        chosen.append(best)
        patients[best[0]] += 1
        for name in held[best]:
            shown[name] += 1
    kept = {id(clip) for study in chosen for clip in studies[study]}
    return [clip for clip in clips if id(clip) in kept]


def _pool(places: Mapping[str, str]) -> list[str]:
    return [patient for patient, split in places.items() if split == "train"]


def _take(
    places: dict[str, str],
    clips: Sequence[LabelledClip],
    split: str,
    count: int,
    seed: int,
    target: str,
) -> None:
    """Move so many patients of train to another split, the same share of every class."""
    ordered = _stratified(clips, _pool(places), seed, target)
    classes = _classes(clips, target)
    kept: set[str] = set()  # classes of those who stay
    free = []
    for patient in ordered:
        if not kept or not classes[patient] <= kept:
            kept |= classes[patient] or {""}
        else:
            free.append(patient)
    if count > len(free):
        raise InputError(
            f"{len(ordered)} patients: too few to take {count} for {split} and train on each "
            "class: label clips of more, or say yourself which clip is of which split"
        )
    for i, patient in enumerate(free):
        if (i + 1) * count // len(free) > i * count // len(free):  # every so many-th
            places[patient] = split


def _stratified(
    clips: Sequence[LabelledClip], patients: Iterable[str], seed: int, target: str
) -> list[str]:
    """Patients by class, then as the seed has them: every n-th has its share of each class.

    A patient of several classes counts for the rarest.
    """
    classes = _classes(clips, target)
    numbers = collections.Counter(name for names in classes.values() for name in names)

    def place(patient: str) -> tuple:
        rarest = min(((numbers[name], name) for name in classes[patient]), default=(0, ""))
        return *rarest, _hash(seed, patient)

    return sorted(patients, key=place)


def _classes(clips: Sequence[LabelledClip], target: str) -> dict[str, set[str]]:
    """{patient: classes}; of numbers, none."""
    classes = collections.defaultdict(set)
    for clip in clips:
        value = clip.targets.get(target)
        classes[clip.patient] |= {value} if isinstance(value, str) else set()
    return classes


def _hash(seed: int, patient: str) -> str:
    return hashlib.sha256(f"{seed} {patient}".encode(errors="surrogateescape")).hexdigest()


def _by_split(clips: Sequence[LabelledClip], places: Mapping[str, str]) -> dict[str, Clips]:
    made: dict[str, Clips] = {split: [] for split in SPLITS}
    for clip in clips:
        made[places[clip.patient]].append(clip)
    return made
