"""Files read and cleaned once: pixels of labelled clips, a compressed file a clip.

Pixels are kept as they are (zstd): of 300 frames of real files, 224 pixels wide, each takes 18 kB
and 0.04 ms to decode, as JPEG of quality 95 10 kB and 0.18 ms, and a head sees them many times.
A file is named by a hash of all that its pixels depend on.
"""

import dataclasses
import hashlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipelines import records
from data_pipelines.clip import Rejected
from data_pipelines.labelled import LabelledClip, Pixels
from data_pipelines.labelled_files import FileReader
from data_pipelines.memory import keep_freed_blocks
from data_pipelines.one_file import RETRIED, stamps
from data_pipelines.workers import lost, map_in_order, patience
from echofm_jax import __version__
from echofm_jax.errors import InputError

Refused = tuple[str, str, str]  # a clip's name, a reason of clip.REASONS, a detail
Task = tuple[FileReader, int, bool, Path]


def cached(
    clips: Sequence[LabelledClip], size: int, colour: bool, folder: Path, workers: int
) -> tuple[list[LabelledClip], list[Refused]]:
    """Clips that are fast to read at this size, in their order, and what cannot be used.

    Files are read in `workers` processes and kept in `folder`; what is there is not read again, nor
    is what was refused, unless the machine may have been at fault. Records of shards are fast
    already and stay as they are.

    Raises:
      InputError: nothing can be written there.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    places = {
        clip.name: folder / _name(clip.read, size, colour)
        for clip in clips
        if isinstance(clip.read, FileReader)
    }
    tasks = {
        clip.name: (clip.read, size, colour, places[clip.name])
        for clip in clips
        if clip.name in places and not any(p.exists() for p in _both(places[clip.name]))
    }
    done = tqdm(
        map_in_order(keep, tasks.values(), workers, time_limit),
        "reading clips", len(tasks), unit="clip", file=sys.stderr, disable=None if tasks else True,
    )  # fmt: skip
    new = dict(zip(tasks, done, strict=True))
    fast, refused = [], []
    for clip in clips:
        if clip.name not in places:
            fast.append(clip)
            continue
        kept, note = _both(places[clip.name])
        if clip.name in new:
            why = new[clip.name]
        else:
            why = () if kept.exists() else tuple(note.read_text("utf-8").split("\n", 1))
        if gone := lost(why):
            why = "failed", gone
        if why:
            refused.append((clip.name, *why))
        else:
            reader = KeptReader(kept, size, colour, clip.read)
            fast.append(dataclasses.replace(clip, read=reader))
    return fast, refused


@dataclasses.dataclass(frozen=True)
class KeptReader:
    """Reads a clip from the file that `keep` wrote; at another size, from its own."""

    path: Path
    size: int
    colour: bool
    file: FileReader

    def __call__(self, size: int, colour: bool) -> Pixels:
        """All frames of the clip. Raises InputError if the file was damaged since."""
        if (size, colour) != (self.size, self.colour):
            return self.file(size, colour)
        try:
            return unpack(self.path.read_bytes())
        except Exception as error:  # NumPy's, and each codec's own
            raise InputError(
                f"{self.path} is damaged or gone ({type(error).__name__}): delete it, start again"
            ) from error


def time_limit(task: Task) -> float:
    """Seconds after which a file's process will not come back."""
    reader = task[0]
    return patience(stamps(reader.path, reader.label))


def keep(task: Task) -> tuple[str, ...]:
    """Read one file and keep its pixels, whole or not at all; why it is refused, or nothing.

    Raises:
      InputError: the disk is full and the like.
    """
    reader, size, colour, place = task
    kept, note = _both(place)
    keep_freed_blocks()
    try:
        data = pack(reader(size, colour))
    except Rejected as rejected:
        why = rejected.reason, rejected.detail
    except MemoryError:
        why = "failed", "needs more memory than a worker has"
    except Exception as error:  # a bad file never stops the others; it is told as failed
        why = "failed", type(error).__name__
    else:
        _write(kept, data)
        return ()
    if why[0] not in RETRIED:
        _write(note, "\n".join(why).encode())
    return why


def pack(pixels: Pixels) -> bytes:
    """Pixels → bytes, lossless."""
    order = sorted(pixels.masks)
    masks = np.array([pixels.masks[frame] for frame in order], np.uint8)  # [n, S, S]
    file = io.BytesIO()
    np.savez(
        file,
        shape=pixels.frames.shape,
        frames=np.frombuffer(records.encode_frame(pixels.frames, "zstd"), np.uint8),
        sector=np.packbits(pixels.sector),
        fps=np.float64(pixels.fps),
        spacing=pixels.spacing,
        mask_frames=np.array(order, np.int64),
        masks=np.frombuffer(records.encode_mask(masks), np.uint8),
        point_frames=np.array(list(pixels.points), np.int64),
        points=np.array(list(pixels.points.values()), np.float32),  # [n, 4, 2]
        end_diastole=np.array(pixels.end_diastole, np.int64),
    )
    return file.getvalue()


def unpack(data: bytes) -> Pixels:
    """What `pack` was given."""
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        frames = np.empty(held["shape"], np.uint8)
        records.decode_frame(held["frames"], "zstd", frames)
        order, size = held["mask_frames"].tolist(), frames.shape[1]
        masks = np.empty((len(order), size, size), np.uint8)
        records.decode_frame(held["masks"], "zstd", masks)
        return Pixels(
            frames=frames,
            sector=records.unpack_sector(held["sector"].tobytes(), size),
            fps=float(held["fps"]),
            spacing=held["spacing"],
            masks=dict(zip(order, masks, strict=True)),
            points=dict(zip(held["point_frames"].tolist(), held["points"], strict=True)),
            end_diastole=tuple(held["end_diastole"].tolist()),
        )


def _name(reader: FileReader, size: int, colour: bool) -> str:
    told = repr((__version__, reader.key, size, colour))
    return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:32]


def _both(place: Path) -> tuple[Path, Path]:
    """Where a clip's pixels are kept, or why it has none."""
    return place.with_suffix(".npz"), place.with_suffix(".refused")


def _write(path: Path, data: bytes) -> None:
    half = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        half.write_bytes(data)
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise _cannot_write(path.parent, error) from None


def _cannot_write(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot keep clips in {folder}: {error.strerror or error}: free some space or choose "
        "another folder"
    )
