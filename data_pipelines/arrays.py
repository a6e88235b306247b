"""Clips from NumPy files: the header decides before anything is allocated."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from data_pipelines.clip import MAX_FRAMES_READ, Clip, Rejected

# Of decoded frames: 455 of 1024×768 in colour. All that is made of them must fit in the memory of
# one of several workers (workers.MOST), about three times as much.
MAX_BYTES_READ = 1 << 30
RATES = (1.0, 1000.0)  # frames a second that an ultrasound machine can have
MIN_SIDE = 16  # pixels; what is narrower is an axis of colours or a table, not an image
MAX_HEADER = 1 << 16  # bytes that say what an array is
CLIP_KEYS = ("clip", "video", "frames")


def check_extent(
    frames: int, height: int, width: int, channels: int, *, still: bool = False
) -> None:
    """Reject a clip by its announced size, before memory is taken for it.

    `still`: one frame is all that is asked for.

    Raises:
        Rejected: `empty`, `single_frame` or `too_long`.
    """
    if frames < 1 or height < 1 or width < 1:
        raise Rejected("empty", "no pixels")
    if frames == 1 and not still:
        raise Rejected("single_frame")
    if frames > MAX_FRAMES_READ:
        raise Rejected("too_long", f"{frames} frames, at most {MAX_FRAMES_READ}")
    if frames * height * width * channels > MAX_BYTES_READ:
        raise Rejected("too_long", f"{frames} frames of {width}×{height} pixels")


def read(path: Path) -> Clip:
    """Read a `.npy` or `.npz` clip.

    Shapes are (T, H, W), (T, H, W, 1 or 3), (T, 1 or 3, H, W) and (1 or 3, T, H, W). An archive
    holds the clip as `clip`, `video` or `frames`, or as its only array of 3 or 4 dimensions, and
    may hold a scalar `fps` (frames a second).

    Raises:
        Rejected: no clip, a shape that can be read in two ways, or values outside the range.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"\x93NUM":
        _layout(*_header(path.open("rb")))
        try:
            return Clip(frames=_frames(np.load(path, "r")), times=None, fps_source="unknown")
        except ValueError as error:  # the map is longer than the file
            raise Rejected("truncated", type(error).__name__) from None
    if magic != b"PK\x03\x04":
        raise Rejected("unreadable", "neither npy nor npz")
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {
                name.removesuffix(".npy"): _header(archive.open(name))
                for name in archive.namelist()
            }
    except zipfile.BadZipFile as error:  # its directory stands at the end
        raise Rejected("truncated", type(error).__name__) from None
    key = _clip_key(headers)
    shape, dtype = headers[key]
    _layout(shape, dtype)
    if math.prod(shape) * dtype.itemsize > MAX_BYTES_READ:  # it is unpacked whole, unlike a .npy
        raise Rejected("too_long", f"{len(shape)} dimensions, {dtype.itemsize} bytes a value")
    with np.load(path, allow_pickle=False) as arrays:
        frames = _frames(arrays[key])
        fps = _fps(arrays["fps"]) if headers.get("fps", [None])[0] == () else 0.0
    if not fps:
        return Clip(frames=frames, times=None, fps_source="unknown")
    return Clip(frames=frames, times=np.arange(len(frames)) / fps, fps_source="container")


def _header(file) -> tuple[tuple[int, ...], np.dtype]:
    with file:
        version = np.lib.format.read_magic(file)
        read_header, width = (
            (np.lib.format.read_array_header_1_0, 2)
            if version == (1, 0)
            else (np.lib.format.read_array_header_2_0, 4)
        )
        length = file.read(width)
        if int.from_bytes(length, "little") > MAX_HEADER:  # NumPy would read it first
            raise Rejected("unreadable", "its header is too long")
        shape, _, dtype = read_header(io.BytesIO(length + file.read(MAX_HEADER)))
    return shape, dtype


def _clip_key(headers: dict) -> str:
    for key in CLIP_KEYS:
        if key in headers:
            return key
    keys = [key for key, (shape, _) in headers.items() if len(shape) in (3, 4)]
    if len(keys) != 1:
        raise Rejected("not_video", f"{len(keys)} arrays of 3 or 4 dimensions")
    return keys[0]


def _fps(value: np.ndarray) -> float:
    fps = float(value) if value.dtype.kind in "fiu" else 0.0
    return fps if RATES[0] <= fps <= RATES[1] else 0.0


def _layout(shape: tuple[int, ...], dtype: np.dtype) -> int | None:
    """Check an array's header and return its axis of colours (None: it has none)."""
    if dtype not in (np.uint8, np.uint16) and dtype.kind != "f":
        raise Rejected("not_video", f"values of kind {dtype.kind}{8 * dtype.itemsize}")
    if len(shape) == 3 and shape[2] in (1, 3) and min(shape[:2]) >= MIN_SIDE:
        raise Rejected("single_frame")
    axes = [None] if len(shape) == 3 else []
    if len(shape) == 4:
        axes = [axis for axis in (3, 1, 0) if shape[axis] in (1, 3)]
    layouts = []
    for axis in axes:
        rest = [size for i, size in enumerate(shape) if i != axis]  # T, H, W
        if min(rest[1:]) >= MIN_SIDE:
            layouts.append((axis, rest))
    if len(layouts) != 1:
        raise Rejected("not_video", f"{len(shape)} dimensions with {len(layouts)} readings")
    axis, rest = layouts[0]
    check_extent(*rest, 1 if axis is None else shape[axis])
    return axis


def _frames(array: np.ndarray) -> np.ndarray:
    """Any accepted layout and range → uint8 [T, H, W] or [T, H, W, 3]."""
    axis = _layout(array.shape, array.dtype)
    if axis is not None:
        array = np.moveaxis(array, axis, 3)  # [T, H, W, C]
        array = array[..., 0] if array.shape[3] == 1 else array
    if array.dtype == np.uint8:
        return np.array(array, order="C")
    low = min(float(frame.min()) for frame in array)
    high = max(float(frame.max()) for frame in array)
    if not (low >= 0 and high < 65536) or (array.dtype.kind == "f" and high > 255):
        raise Rejected("unreadable", "values outside [0, 1] and [0, 255]")  # or not a number
    if array.dtype == np.uint16:  # 10 or 12 bits are common: scale by the bits in use
        scale = 255 / (2 ** max(int(high).bit_length(), 8) - 1)
    else:
        scale = 255 if high <= 1 else 1
    frames = np.empty(array.shape, np.uint8)
    for frame, out in zip(array, frames, strict=True):
        out[...] = np.rint(frame * np.float32(scale))
    return frames
