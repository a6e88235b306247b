"""`labels.jsonl`: what the owner of the files knows about them, checked before it is used.

One JSON object a line: `file` (relative to the source) and any of `patient`, `fps`, `view`,
`phase`, `end_diastole`, `end_systole`, `ejection_fraction`, `simulated`. Nothing else is accepted,
so that nothing else can reach a shard.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from data_pipelines.clip import Rejected
from data_pipelines.records import VIEWS
from echofm_jax.errors import InputError

# Fields that only the readers of public data sets fill in.
PREPARED = {"split", "tracings", "mask_files", "measurements", "aortic_stenosis",
            "aortic_regurgitation", "still", "problem"}  # fmt: skip


class Tracing(NamedTuple):
    """A structure's outline in one frame."""

    frame: int
    structure: str  # one of records.STRUCTURES
    points: tuple[tuple[float, float], ...]  # x, y in pixels of the file's frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """One file's labels; empty, zero or NaN where nothing is known."""

    patient: str = ""
    fps: float = 0.0
    view: str = ""
    phase: tuple[float, ...] = ()  # of every frame, in [0, 1), 0 = end-diastole
    end_diastole: tuple[int, ...] = ()  # frame numbers from 0
    end_systole: tuple[int, ...] = ()
    ejection_fraction: float = math.nan  # percent
    simulated: bool = False
    split: str = ""  # the owner's own; empty: by hash
    tracings: tuple[Tracing, ...] = ()
    mask_files: tuple[tuple[str, int], ...] = ()  # (file beside the clip, frame of its first map)
    measurements: tuple[tuple[str, float], ...] = ()  # names of records.MEASUREMENTS
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
        lines = path.read_text().splitlines()
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
            if name in labels:
                raise ValueError("its file is labelled twice")
            labels[name] = parse(values)
        except ValueError as error:
            raise InputError(f"labels {path.name}, line {number}: {error}") from None
    return labels


def parse(values: dict) -> Label:
    """One line's values → a label; raises ValueError saying what is wrong."""
    known = {field.name for field in dataclasses.fields(Label)} - PREPARED
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown field {unknown[0]}; known: file, {', '.join(sorted(known))}")
    label = Label(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    if not isinstance(label.patient, str):
        raise ValueError("patient must be a string")
    if type(label.fps) not in (int, float) or not 0 <= label.fps < 1000:
        raise ValueError("fps must be a number below 1000")
    if label.view not in VIEWS:
        raise ValueError(f"unknown view; known: {', '.join(filter(None, VIEWS))}")
    if not all(type(p) in (int, float) and 0 <= p < 1 for p in items(label.phase)):
        raise ValueError("phase must be a list of numbers in [0, 1)")
    for frames in (label.end_diastole, label.end_systole):
        if not all(type(i) is int and i >= 0 for i in items(frames)):
            raise ValueError("end_diastole and end_systole must be lists of frame numbers from 0")
    ef = label.ejection_fraction
    if type(ef) not in (int, float) or ef < 0 or ef > 100:
        raise ValueError("ejection_fraction must be a percentage")
    if not isinstance(label.simulated, bool):
        raise ValueError("simulated must be true or false")
    return label


def items(value: object) -> tuple:
    """What a list held; of anything else, a tuple that no check accepts."""
    return value if isinstance(value, tuple) else (None,)
