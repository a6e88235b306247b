"""A cleaned clip → the records that hold it: short enough to read whole, labels cut along.

A record is read whole for every window of it, so it is short; but it must hold windows of seconds,
whatever the frame rate, and heartbeats to compare.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_pipelines.labels import Label, check_frames
from data_pipelines.records import (
    MAX_FRAMES,
    MEASUREMENTS,
    UNKNOWN,
    encode_frame,
    encode_mask,
    pack_sector,
)

FRAMES = 128  # a record may hold so many,
SECONDS = 4.0  # or so much; cut in two, it still holds 2 s


def make_records(
    frames: np.ndarray,
    sector: np.ndarray,
    times: np.ndarray | None,
    label: Label,
    *,
    encoding: str,
    masks: Mapping[int, np.ndarray] | None = None,
    r_waves: Sequence[float] = (),
    **fields,
) -> Iterator[Mapping]:
    """Yield examples of `records.FEATURES` of at most `segment_frames` frames, about equally long.

    Args:
      frames: [T, H, W] or [T, H, W, 3] uint8, cleaned.
      sector: [H, W] bool.
      times: [T] seconds, or None if the frame rate is unknown.
      label: what is known of the clip; `phase` is empty or has T entries.
      encoding: one of records.ENCODINGS.
      masks: {frame: [H, W] uint8 label map, as `Cleaned.place` gives it}.
      r_waves: seconds from the first frame.
      fields: the same in every record: `fps_source`, `mode`, `clip_id`, `patient_id`, and of
        `records.UNKNOWN` what is known.
    """
    masks = masks or {}
    check_frames(label, len(frames), masks)
    if len(frames) == 1:
        times = np.zeros(1)  # known, whatever the rate
    measured = dict(label.measurements)
    for name in ("aortic_stenosis", "aortic_regurgitation"):
        fields[name] = getattr(label, name)
    fields["measurements"] = np.float32([measured.get(name, np.nan) for name in MEASUREMENTS])
    parts = np.array_split(np.arange(len(frames)), -(-len(frames) // segment_frames(times)))
    for number, part in enumerate(parts):
        first, stop = int(part[0]), int(part[-1]) + 1
        own = np.zeros(0) if times is None else times[first:stop] - times[first]
        traced = sorted(frame for frame in masks if first <= frame < stop)
        began, ended = (times[first], times[stop - 1]) if times is not None else (0.0, -1.0)
        yield (
            UNKNOWN
            | fields
            | {
                "frames": [encode_frame(frame, encoding) for frame in frames[first:stop]],
                "times": own.astype(np.float32),
                "fps": np.float32((len(own) - 1) / own[-1] if len(own) > 1 else 0),
                "sector": pack_sector(sector),
                "segment": number,
                "segments": len(parts),
                "view": label.view,
                "rhythm": label.rhythm,
                "ejection_fraction": np.float32(label.ejection_fraction),
                "phase": np.asarray(label.phase[first:stop], np.float32),
                "end_diastole": inside(label.end_diastole, first, stop),
                "end_systole": inside(label.end_systole, first, stop),
                "masks": [encode_mask(np.where(sector, masks[frame], 0)) for frame in traced],
                "mask_frames": np.array(traced, np.int32) - first,
                "r_waves": np.float32([t - began for t in r_waves if began <= t <= ended]),
            }
        )


def segment_frames(times: np.ndarray | None) -> int:
    """The most frames of a record of a clip with these frame times [s], None = unknown."""
    if times is None or len(times) < 2:
        return FRAMES
    rate = (len(times) - 1) / (times[-1] - times[0])
    return int(np.clip(SECONDS * rate, FRAMES, MAX_FRAMES))


def inside(indices: tuple[int, ...], first: int, stop: int) -> np.ndarray:
    """Frame numbers of a clip → those of one part of it, counted from the part's beginning."""
    return np.array([i - first for i in indices if first <= i < stop], np.int32)
