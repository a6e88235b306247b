"""What a record knows of a window besides its pixels: arrays of fixed shapes, to be batched."""

import numpy as np

from data_pipelines import records
from data_pipelines.bad_records import BadRecord
from data_pipelines.clip_source import Record


def clip_labels(record: Record, frame_index: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of the window of a record's frames `frame_index` [T] int32.

    Of the window: `frame_index` itself and `phase` [T] float32, in [0, 1), 0 = end-diastole. Of its
    clip: `view` and `rhythm` int32, index in `records.VIEWS` and `records.RHYTHMS`;
    `ejection_fraction` float32, percent; `measurements` [m] float32, in the order and the units of
    `records.MEASUREMENTS`; `aortic_stenosis` and `aortic_regurgitation` int32, index in
    `records.GRADES`.

    Unknown is NaN of a float, view and rhythm 0, grade -1.

    Raises:
      BadRecord: a view or a rhythm that is none of theirs.
    """
    phase = record.floats("phase")
    unknown = np.full(len(frame_index), np.nan, np.float32)
    return {
        "frame_index": frame_index,
        "phase": phase[frame_index] if len(phase) else unknown,
        "view": word(record, "view", records.VIEWS),
        "rhythm": word(record, "rhythm", records.RHYTHMS),
        "ejection_fraction": record.floats("ejection_fraction")[0],
        "measurements": record.floats("measurements"),
        "aortic_stenosis": record.integers("aortic_stenosis")[0],
        "aortic_regurgitation": record.integers("aortic_regurgitation")[0],
    }


def word(record: Record, name: str, words: tuple[str, ...]) -> np.int32:
    """Which of its words a text is; a data set older than the text (`records.LATER`) has none."""
    held = [data.decode(errors="replace") for data in record.bytes_list(name)]
    if not held and name in records.LATER:
        held = [records.UNKNOWN[name]]
    if held[0] not in words:
        raise BadRecord(f"{record.place} names no known {name}: ingest its source again")
    return np.int32(words.index(held[0]))
