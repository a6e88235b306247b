"""Frames and sector of a stored record, at the size that is asked for."""

import cv2
import numpy as np

from data_pipelines import records
from data_pipelines.bad_records import BadRecord
from data_pipelines.clip_source import Record


def decode_frames(
    record: Record, frame_index: np.ndarray, size: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Frames `frame_index` [T] of a record, [T, size, size] uint8 or [T, size, size, 3].

    A frame that is asked for more than once is decoded once. Frames stored larger than `size` are
    reduced by averaging areas, smaller ones interpolated. With `out` they are written there.

    Raises:
      BadRecord: a frame that cannot be decoded.
    """
    info, encoded = record.info, record.bytes_list("frames")
    colour = (3,) if info.colour else ()
    if out is None:
        out = np.empty((len(frame_index), size, size, *colour), np.uint8)
    stored = None if info.size == size else np.empty((info.size, info.size, *colour), np.uint8)
    method = cv2.INTER_AREA if info.size > size else cv2.INTER_LINEAR
    decoded: dict[int, int] = {}  # frame → where in the clip it is
    for i, frame in enumerate(frame_index.tolist()):
        if frame in decoded:
            out[i] = out[decoded[frame]]
            continue
        decoded[frame] = i
        try:
            records.decode_frame(
                encoded[frame], info.encoding, out[i] if stored is None else stored
            )
        except Exception as error:  # each codec has its own
            raise BadRecord(
                f"{record.place}, frame {frame} cannot be decoded ({error}): ingest its source "
                "again"
            ) from error
        if stored is not None:
            cv2.resize(stored, (size, size), dst=out[i], interpolation=method)
    return out


def decode_sector(record: Record, size: int) -> np.ndarray:
    """[size, size] bool, inside the ultrasound sector; all True where that is not known."""
    packed = record.bytes_list("sector")[0]
    if not packed:
        return np.ones((size, size), bool)
    return nearest(records.unpack_sector(packed, record.info.size), size)


def nearest(image: np.ndarray, size: int) -> np.ndarray:
    """[S, S] → [size, size], each pixel that of the nearest centre: for masks and label maps."""
    index = ((np.arange(size) + 0.5) * len(image) / size).astype(int)
    return image[np.ix_(index, index)]
