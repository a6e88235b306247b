"""`labels.jsonl`: what the owner of the files knows about them, checked before it is used.

One JSON object a line: `file` (relative to the source) and any of `patient`, `fps`, `view`,
`rhythm`, `phase`, `end_diastole`, `end_systole`, `ejection_fraction`, `aortic_stenosis`,
`aortic_regurgitation`, `masks`, `points`, `simulated`. A valve's grade is `none`, `early` or
`significant`; `masks` are {frame number: PNG of values of records.STRUCTURES, as large as the
frames}, paths from the folder of labels.jsonl; `points` are {frame number, of end-diastole or
end-systole: {name of records.LANDMARKS: [x, y] in pixels of the file's frames}}. Nothing else is
accepted, so that nothing else can reach a shard.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from data_pipelines.arrays import RATES
from data_pipelines.clip import Rejected
from data_pipelines.records import GRADES, LANDMARKS, RHYTHMS, VIEWS
from echofm_jax.errors import InputError

# Fields that only the readers of public data sets fill in.
PREPARED = {"split", "tracings", "mask_files", "measurements", "spacing", "still", "problem"}
VALVES = ("aortic_stenosis", "aortic_regurgitation")


class Tracing(NamedTuple):
    """A structure's outline in one frame."""

    frame: int
    structure: str  # one of records.STRUCTURES
    points: tuple[tuple[float, float], ...]  # x, y in pixels of the file's frames


class Points(NamedTuple):
    """Where the walls and the cavity were measured in one frame."""

    frame: int
    places: tuple[tuple[float, float], ...]  # x, y of records.LANDMARKS, as a tracing's; NaN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """One file's labels; empty, zero or NaN where nothing is known."""

    patient: str = ""
    fps: float = 0.0
    view: str = ""
    rhythm: str = ""
    phase: tuple[float, ...] = ()  # of every frame, in [0, 1), 0 = end-diastole
    end_diastole: tuple[int, ...] = ()  # frame numbers from 0
    end_systole: tuple[int, ...] = ()
    ejection_fraction: float = math.nan  # percent
    simulated: bool = False
    split: str = ""  # the owner's own; empty: by hash
    tracings: tuple[Tracing, ...] = ()
    mask_files: tuple[tuple[str, int], ...] = ()  # (file beside the clip, frame of its first map)
    measurements: tuple[tuple[str, float], ...] = ()  # names of records.MEASUREMENTS
    points: tuple[Points, ...] = ()
    spacing: float = 0.0  # mm a pixel of the file's frames; 0 = unknown
    aortic_stenosis: int = -1  # index in records.GRADES
    aortic_regurgitation: int = -1
    still: bool = False  # a single picture, and meant to be one
    problem: str = ""  # why the file cannot be used, whatever it holds


def check_frames(label: Label, count: int, masked: Iterable[int] = ()) -> None:
    """Raise Rejected (`label_mismatch`) if a clip of `count` frames cannot be what is labelled.

    `masked`: numbers of the frames that have masks.
    """
    if label.phase and len(label.phase) != count:
        raise Rejected("label_mismatch", f"{count} frames, {len(label.phase)} phases")
    named = (*label.end_diastole, *label.end_systole, *masked)
    if named and not (min(named) >= 0 and max(named) < count):
        raise Rejected("label_mismatch", f"{count} frames, and a label outside them")


def read_labels(path: Path) -> dict[str, Label]:
    """{file: label}. Raises InputError naming the first line that is wrong, and why."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a name may hold other separators
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels {path}: cannot be read ({error})") from None
    labels = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            name = values.pop("file", None) if isinstance(values, dict) else None
            if not isinstance(name, str) or not name:
                raise ValueError('give an object with "file", the path below the source')
            if not is_text(name, errors="surrogateescape"):  # so names that are no text are told
                raise ValueError("no file can have this name: half a surrogate pair stands in it")
            if name in labels:
                raise ValueError("its file is labelled twice")
            labels[name] = parse(values, path.parent)
        except ValueError as error:
            raise InputError(f"labels {path.name}, line {number}: {error}") from None
        except RecursionError:
            raise InputError(f"labels {path.name}, line {number}: is nested too deeply") from None
    return labels


def parse(values: dict, folder: Path) -> Label:
    """One line's values → a label; raises ValueError saying what is wrong.

    `folder`: from which the paths of its masks lead.
    """
    known = {field.name for field in dataclasses.fields(Label)} - PREPARED | {"masks"}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown field {unknown[0]}; known: file, {', '.join(sorted(known))}")
    masks = mask_files(values.pop("masks", {}), folder)
    grades = {valve: grade(valve, values[valve]) for valve in VALVES if valve in values}
    points = values.pop("points", {})
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()} | grades
    label = Label(**values, mask_files=masks)
    if not isinstance(label.patient, str) or not is_text(label.patient):
        raise ValueError("patient must be a string, without half a surrogate pair")
    if type(label.fps) not in (int, float) or not (
        label.fps == 0 or RATES[0] <= label.fps <= RATES[1]
    ):
        raise ValueError(f"fps must be a number from {RATES[0]:g} to {RATES[1]:g}, or 0: unknown")
    if label.view not in VIEWS:
        raise ValueError(f"unknown view; known: {', '.join(filter(None, VIEWS))}")
    if label.rhythm not in RHYTHMS:
        raise ValueError(f"unknown rhythm; known: {', '.join(filter(None, RHYTHMS))}")
    if not all(type(p) in (int, float) and 0 <= p < 1 for p in items(label.phase)):
        raise ValueError("phase must be a list of numbers in [0, 1)")
    for frames in (label.end_diastole, label.end_systole):
        if not all(type(i) is int and i >= 0 for i in items(frames)):
            raise ValueError("end_diastole and end_systole must be lists of frame numbers from 0")
    ef = values.get("ejection_fraction", 0)
    if type(ef) not in (int, float) or not 0 <= ef <= 100:
        raise ValueError("ejection_fraction must be a percentage")
    if not isinstance(label.simulated, bool):
        raise ValueError("simulated must be true or false")
    return dataclasses.replace(
        label, points=landmarks(points, {*label.end_diastole, *label.end_systole})
    )


def landmarks(points: object, known: set[int]) -> tuple[Points, ...]:
    """`Label.points` of {frame number: {name: [x, y]}}; raises ValueError if it is none.

    `known`: frames of end-diastole and end-systole, for a thickness is that of one of both.
    """
    if not isinstance(points, dict) or not all(
        frame.isdecimal()
        and isinstance(named, dict)
        and named.keys() <= set(LANDMARKS)
        and all(map(is_place, named.values()))
        for frame, named in points.items()
    ):
        raise ValueError(
            'points must be {"frame number": {"NAME": [x, y]}} of ' + ", ".join(LANDMARKS)
        )
    if others := {int(frame) for frame in points} - known:
        raise ValueError(
            f"points of frame {min(others)}, which is in neither end_diastole nor end_systole"
        )
    unknown = (math.nan, math.nan)
    return tuple(
        Points(int(frame), tuple(tuple(named.get(name, unknown)) for name in LANDMARKS))
        for frame, named in points.items()
    )


def is_place(value: object) -> bool:
    """Whether it is [x, y]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) in (int, float) and math.isfinite(side) for side in value)
    )


def mask_files(masks: object, folder: Path) -> tuple[tuple[str, int], ...]:
    """`Label.mask_files` of {frame number: PNG}; raises ValueError if it is none."""
    if not isinstance(masks, dict) or not all(
        frame.isdecimal() and isinstance(name, str) and name.lower().endswith(".png")
        for frame, name in masks.items()
    ):
        raise ValueError('masks must be {"frame number": "FILE.png"}')
    return tuple((str((folder / name).absolute()), int(frame)) for frame, name in masks.items())


def grade(valve: str, word: object) -> int:
    """The index of a grade; raises ValueError if it is none."""
    if word not in GRADES:
        raise ValueError(f"{valve} must be one of {', '.join(GRADES)}")
    return GRADES.index(word)


def is_text(value: str, errors: str = "strict") -> bool:
    """Whether a string can be written; JSON may hold half a surrogate pair."""
    try:
        value.encode(errors=errors)
    except UnicodeEncodeError:
        return False
    return True


def items(value: object) -> tuple:
    """What a list held; of anything else, a tuple that no check accepts."""
    return value if isinstance(value, tuple) else (None,)
