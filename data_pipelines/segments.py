"""A cleaned clip → the records that hold it: short enough to read whole, labels cut along."""

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipelines.labels import Label
from data_pipelines.records import MAX_FRAMES, encode_frame, pack_sector


def make_records(
    frames: np.ndarray,
    sector: np.ndarray,
    times: np.ndarray | None,
    label: Label,
    *,
    encoding: str,
    **texts: str,
) -> Iterator[Mapping]:
    """Yield examples of `records.FEATURES` of at most MAX_FRAMES frames, about equally long.

    Args:
      frames: [T, H, W] or [T, H, W, 3] uint8, cleaned.
      sector: [H, W] bool.
      times: [T] seconds, or None if the frame rate is unknown.
      label: what is known of the clip; `phase` is empty or has T entries.
      encoding: one of records.ENCODINGS.
      texts: `fps_source`, `mode`, `clip_id`, `patient_id`.
    """
    parts = np.array_split(np.arange(len(frames)), -(-len(frames) // MAX_FRAMES))
    for number, part in enumerate(parts):
        first, stop = int(part[0]), int(part[-1]) + 1
        own = np.zeros(0) if times is None else times[first:stop] - times[first]
        yield texts | {
            "frames": [encode_frame(frame, encoding) for frame in frames[first:stop]],
            "times": own.astype(np.float32),
            "fps": np.float32((len(own) - 1) / own[-1] if len(own) > 1 else 0),
            "sector": pack_sector(sector),
            "segment": number,
            "segments": len(parts),
            "view": label.view,
            "ejection_fraction": np.float32(label.ejection_fraction),
            "phase": np.asarray(label.phase[first:stop], np.float32),
            "end_diastole": inside(label.end_diastole, first, stop),
            "end_systole": inside(label.end_systole, first, stop),
        }


def inside(indices: tuple[int, ...], first: int, stop: int) -> np.ndarray:
    """Frame numbers of a clip → those of one part of it, counted from the part's beginning."""
    return np.array([i - first for i in indices if first <= i < stop], np.int32)
