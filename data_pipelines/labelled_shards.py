"""Labelled clips of a data set of shards, as `echofm ingest` and `echofm phantom` write it."""

import dataclasses
import functools
import os
from pathlib import Path

import cv2
import numpy as np

from data_pipelines import records, shards
from data_pipelines.clean import to_grey
from data_pipelines.clip_labels import word
from data_pipelines.clip_source import ClipSource, Record
from data_pipelines.decode import decode_frames, decode_sector, nearest
from data_pipelines.labelled import LabelledClip, LabelledSet, Pixels
from data_pipelines.labels import VALVES

TEXTS = {"view": records.VIEWS, "rhythm": records.RHYTHMS}


def read_shards(data_dir: Path) -> LabelledSet:
    """Every record of every split. Records of one clip are clips of their own, labelled alike.

    A record is named SPLIT/NUMBER, its patient is a hash, and so is its examination: records know
    no other. Each record is read once; no frame is decoded or copied.

    Raises:
      InputError: a shard is missing or damaged; BadRecord of one record.
    """
    info = shards.dataset_info(data_dir)
    clips = []
    for split in info.records:
        source = ClipSource(str(data_dir), split)
        for index in range(len(source)):
            record = source[index]
            patient = record.bytes_list("patient_id")[0].decode()
            clips.append(
                LabelledClip(
                    name=f"{split}/{index}",
                    patient=patient,
                    study=patient,
                    split=split,
                    targets=targets(record),
                    read=RecordReader(str(data_dir), split, index),
                    masked=len(record.integers("mask_frames")) > 0,
                )
            )
    return LabelledSet(
        clips=tuple(clips),
        structures=records.STRUCTURES if any(clip.masked for clip in clips) else (),
        simulated=info.simulated,
    )


def targets(record: Record) -> dict[str, str | float]:
    """What is known of a record: view, rhythm and grades in words, the rest in numbers.

    Ejection fraction in percent; measurements by their names and in the units of
    `records.MEASUREMENTS`.
    """
    found = {name: words[word(record, name, words)] for name, words in TEXTS.items()}
    for valve in VALVES:
        grade = int(record.integers(valve)[0])
        found[valve] = records.GRADES[grade] if grade >= 0 else ""
    numbers = {"ejection_fraction": record.floats("ejection_fraction")[0]}
    numbers |= zip(records.MEASUREMENTS, record.floats("measurements"), strict=True)
    return {name: text for name, text in found.items() if text} | {
        name: float(number) for name, number in numbers.items() if np.isfinite(number)
    }


@dataclasses.dataclass(frozen=True)
class RecordReader:
    """Reads one record; a process opens a split once."""

    data_dir: str
    split: str
    index: int

    def __call__(self, size: int, colour: bool) -> Pixels:
        """All frames of the record. Raises BadRecord, an InputError, if the shard is damaged."""
        # Not the parent's: processes that fork would share its place in the file.
        record = opened(self.data_dir, self.split, os.getpid())[self.index]
        stored = record.info.size
        count = len(record.bytes_list("frames"))
        frames = decode_frames(record, np.arange(count), size)
        if colour and frames.ndim == 3:
            frames = np.repeat(frames[..., None], 3, -1)  # [T, size, size, 3]
        masks = zip(record.integers("mask_frames"), record.bytes_list("masks"), strict=True)
        return Pixels(
            frames=frames if colour else to_grey(frames),
            sector=decode_sector(record, size),
            fps=float(record.floats("fps")[0]),
            spacing=record.floats("spacing") * np.float32(stored / size),
            masks={
                int(frame): nearest(records.decode_mask(mask, stored), size)
                for frame, mask in masks
            },
        )


@functools.lru_cache
def opened(data_dir: str, split: str, process: int) -> ClipSource:
    """The records of a split, in a process."""
    cv2.setNumThreads(1)  # as many processes as cores read clips
    return ClipSource(data_dir, split)
