"""One file → its records, or the reason why it has none; the same function on every runner."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from data_pipelines.clip import Rejected
from data_pipelines.labels import Label

RETRIED = ("failed", "missing", "unreadable")  # may have been the machine's fault


class Outcome(NamedTuple):
    """What became of one file; holds no name."""

    reason: str = ""  # empty: accepted
    detail: str = ""
    mode: str = ""
    frames: int = 0
    fps: float = 0.0
    fps_source: str = ""
    clip_id: str = ""
    patient_id: str = ""
    split: str = ""  # of shards.SPLITS; empty: not known yet
    simulated: bool = False
    ecg_removed: bool = False
    sizes: tuple[int, ...] = ()  # bytes of its records

    @property
    def retried(self) -> bool:
        """Whether the next run takes the file again, though it is the same."""
        return self.reason in RETRIED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Treatment:
    """What is done to every file alike."""

    salt: bytes
    size: int
    encoding: str
    colour: bool
    fps: float  # of files that do not tell theirs; 0 = unknown
    trust_header: bool  # a label or a header may say whose clip it is
    precropped: bool  # nothing but the sector's inside was ever stored
    staged: Path  # the folder of what has been made of files


class Task(NamedTuple):
    """One file, and what is known of it."""

    path: Path
    name: str  # salted hash of its place below the source
    key: str  # … and of its stamps and its label: what was made of it, if nothing changed
    stamps: tuple[tuple[int, int], ...]  # of all files that are read for it
    patient: str  # of the folder or the file's name, if neither label nor header knows
    label: Label
    treatment: Treatment


def stamp(path: Path) -> tuple[int, int]:
    """Bytes and modification time (ns) of a file; zeros for what cannot be asked."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def stamps(path: Path, label: Label) -> tuple[tuple[int, int], ...]:
    """`stamp` of a file and of those that are read with it: its masks, their pixels and its own."""
    from data_pipelines.readers import companions

    files = [path, *(path.parent / name for name, _ in label.mask_files)]
    return tuple(stamp(each) for file in files for each in (file, *companions(file)))


def ingest_file(task: Task) -> tuple[Outcome, list[bytes]]:
    """Read, clean, de-identify and encode one file; every failure is an outcome."""
    try:
        made = make(task)
        if stamps(task.path, task.label) != task.stamps:
            raise Rejected("changed", "while it was read")
        return made
    except Rejected as rejected:
        return Outcome(reason=rejected.reason, detail=rejected.detail), []
    except MemoryError:
        return Outcome(reason="failed", detail="needs more memory than a worker has"), []
    except Exception as error:  # a bad file never stops the run; the type carries no identity
        return Outcome(reason="failed", detail=type(error).__name__), []


def make(task: Task) -> tuple[Outcome, list[bytes]]:
    """The outcome of a file that is accepted, and its serialized records.

    Raises:
      Rejected: it is no usable echo clip.
    """
    import numpy as np

    from data_pipelines import deidentify, memory, segments, shards
    from data_pipelines.cleaned_file import read_cleaned

    memory.keep_freed_blocks()
    label, how = task.label, task.treatment
    if label.problem:
        raise Rejected("label_mismatch", label.problem)
    clip = read_cleaned(
        task.path, label, size=how.size, colour=how.colour, fps=how.fps, precropped=how.precropped
    )
    patient = (label.patient or clip.patient) if how.trust_header else ""
    ids = {
        "clip_id": deidentify.clip_hash(how.salt, clip.frames),
        "patient_id": deidentify.patient_hash(how.salt, patient or task.patient),
    }
    examples = segments.make_records(
        clip.frames, clip.sector, clip.times, label, encoding=how.encoding, masks=clip.masks,
        r_waves=clip.r_waves, fps_source=clip.fps_source, mode=clip.mode,
        heart_rate=np.float32(clip.heart_rate), spacing=clip.spacing, **ids,
    )  # fmt: skip
    records = [shards.serialize(example) for example in examples]
    outcome = Outcome(
        detail=clip.note, mode=clip.mode, frames=len(clip.frames), fps=clip.fps,
        fps_source=clip.fps_source, split=label.split, simulated=label.simulated,
        ecg_removed=clip.ecg_removed, sizes=tuple(map(len, records)), **ids,
    )  # fmt: skip
    return outcome, records
