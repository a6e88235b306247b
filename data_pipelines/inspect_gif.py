"""One stored clip as a GIF that plays at the clip's own pace."""

import functools
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import inspect_pieces, inspect_scan, shards
from data_pipelines.inspect_page import PHANTOM
from data_pipelines.inspect_pieces import Piece
from data_pipelines.privacy_record import Unsound
from echofm_jax.errors import InputError

ASSUMED_FPS = 30.0  # of a clip whose frame rate is not known
SHORTEST = 2  # hundredths of a second: viewers slow down what is faster
LONGEST = 0xFFFF  # of them that a GIF can tell


def write(out: Path, data_dir: str, which: str, processes: int) -> dict:
    """Write `out`/clip-XXXXXX.gif, named after the first digits of the clip's salted id.

    `which` is SPLIT:N, the N-th record of a split from 0, or the first six or more digits of a
    clip's id; then all records of the clip are joined.

    Raises:
      InputError: no such clip, more than one, damage, or `out` cannot be written.
    """
    info, folder = shards.dataset_info(data_dir), shards.dataset_folder(data_dir)
    found = re.fullmatch(r"(\w+):(\d+)", which)
    pieces, _ = inspect_pieces.cut(folder)
    if found:
        parts = [one_record(pieces, found[1], int(found[2]), which)]
    elif re.fullmatch("[0-9a-f]{6,16}", which):
        parts = parts_of(pieces, which, processes)
    else:
        raise InputError(f"--gif {which}: give six or more digits of a clip id, or SPLIT:N")
    try:
        for data in parts:
            inspect_scan.describe(data, info)
    except Unsound as error:
        raise InputError(f"--gif {which}: a record of it is damaged ({error})") from None
    whole = records_of_clip(parts[0])
    if not found and len(parts) < whole:
        raise InputError(
            f"--gif {which}: {len(parts)} of its {whole} records can be read; `echofm inspect` "
            "names the others"
        )
    frames, times, known = join(parts, info)
    kept, durations = playable(times)
    name = f"clip-{shards.identity(parts[0]).clip_id[:6]}.gif"
    images = [to_image(frames[i], info.simulated) for i in kept]
    try:
        images[0].save(
            out / name, save_all=True, append_images=images[1:], duration=durations, loop=0
        )
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}; choose another folder") from error
    rate = (len(times) - 1) / times[-1] if times[-1] > 0 else ASSUMED_FPS
    told = f"{rate:.1f} frames/s" + ("" if known else " (assumed: the clip's rate is unknown)")
    return {"gif": str(out / name), "frames": len(kept), "stored": len(frames), "fps": float(rate),
            "told_fps": told}  # fmt: skip


def one_record(pieces: list[Piece], split: str, number: int, which: str) -> bytes:
    """The record at a place of a split."""
    for piece in (piece for piece in pieces if piece.split == split):
        count = piece.stop - piece.first
        if number < count:
            place = piece.first + number
            ((_, data),) = inspect_pieces.read_piece(piece._replace(first=place, stop=place + 1))
            if data is None:
                raise InputError(f"--gif {which}: {piece.path.name}, record {place} is damaged")
            return data
        number -= count
    raise InputError(f"--gif {which}: no such record; `echofm inspect` counts what there is")


def parts_of(pieces: list[Piece], digits: str, processes: int) -> list[bytes]:
    """The records of the clip whose id begins with `digits`, in the order of its parts."""
    search = functools.partial(matching, digits)
    found = [
        data
        for _, some in inspect_pieces.over_pieces(search, pieces, processes, "search")
        for data in some or ()
    ]
    clips = {shards.identity(data).clip_id for data in found}
    if len(clips) != 1:
        what = f"{len(clips)} clips begin so: give more digits" if clips else "no clip begins so"
        raise InputError(f"--gif {digits}: {what}")
    return sorted(found, key=lambda data: shards.identity(data).segment)


def records_of_clip(data: bytes) -> int:
    """How many records the clip of a record has."""
    feature = tf_example_pb2.Example.FromString(data).features.feature
    return feature["segments"].int64_list.value[0]


def matching(digits: str, piece: Piece) -> list[bytes]:
    """The records of a piece whose clip's id begins with `digits`."""
    found = []
    for _, data in inspect_pieces.read_piece(piece):
        try:
            if data is not None and shards.identity(data).clip_id.startswith(digits):
                found.append(data)
        except Exception:  # it tells no id: `echofm inspect` names it
            continue
    return found


def join(parts: list[bytes], info: shards.DatasetInfo) -> tuple[list[np.ndarray], np.ndarray, bool]:
    """Records of a clip → frames, their times [T] in seconds, and whether these are known."""
    frames, times, known = [], [], True
    for data in parts:
        feature = tf_example_pb2.Example.FromString(data).features.feature
        own = np.array(feature["times"].float_list.value, np.float64)
        count = len(feature["frames"].bytes_list.value)
        known = known and len(own) > 1 and own[-1] > 0
        own = own if len(own) else np.arange(count) / ASSUMED_FPS
        step = own[-1] / (count - 1) if own[-1] > 0 else 1 / ASSUMED_FPS
        began = times[-1] + step if times else 0.0
        times += (began + own).tolist()
        frames += [inspect_scan.decode(one, info) for one in feature["frames"].bytes_list.value]
    return frames, np.array(times), known


def playable(times: np.ndarray) -> tuple[list[int], list[int]]:
    """Which frames to show, and each one's milliseconds; a GIF counts in hundredths of a second.

    Errors do not add up. Above 50 frames a second some are left out, so that the pace is right.
    """
    step = np.median(np.diff(times)) if len(times) > 1 else 1 / ASSUMED_FPS
    ticks = np.rint(np.r_[times, times[-1] + step] * 100).astype(int)
    kept = [0]
    for i in range(1, len(times)):
        if ticks[i] - ticks[kept[-1]] >= SHORTEST:
            kept.append(i)
    ends = [*ticks[kept[1:]].tolist(), max(int(ticks[-1]), int(ticks[kept[-1]]) + SHORTEST)]
    lasts = [end - int(ticks[i]) for i, end in zip(kept, ends, strict=True)]
    return kept, [10 * min(ticks, LONGEST) for ticks in lasts]


def to_image(frame: np.ndarray, simulated: bool) -> Image.Image:
    """A frame with, under it, the word that nobody was examined for it."""
    if not simulated:
        return Image.fromarray(frame)
    height, width = frame.shape[:2]
    labelled = np.zeros((height + 14, width, *frame.shape[2:]), np.uint8)
    labelled[:height] = frame
    image = Image.fromarray(labelled)
    ImageDraw.Draw(image).text((2, height + 1), PHANTOM, fill="white")
    return image
