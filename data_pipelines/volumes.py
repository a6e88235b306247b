"""Image sequences and label maps in medical volume formats: NIfTI, MetaImage (MHD with RAW).

Axes are x, y, time. Pixels that are not square are made square: the finer axis is reduced, so
that nothing is invented and the heart keeps its shape.
"""

import logging
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines.arrays import MAX_BYTES_READ, check_extent
from data_pipelines.clip import Clip, Rejected
from data_pipelines.records import STRUCTURES

NIFTI_SUFFIXES = (".nii", ".nii.gz")
TYPES = {"MET_UCHAR": "u1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_FLOAT": "f4"}
# Its messages may quote the header.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)


class Volume(NamedTuple):
    """Pixels and their size."""

    frames: np.ndarray  # uint8 [T, H, W]
    spacing: tuple[float, float]  # mm a pixel, rows and columns; NaN where it is not said


def read(path: Path) -> Clip:
    """Read a sequence; its header tells no frame rate that could be relied upon.

    Raises:
        Rejected: no sequence, or less of it than the header announces.
    """
    frames, spacing = _read(path, still=False)
    if not _square(*spacing):
        frames, spacing = _squared(frames, spacing, cv2.INTER_AREA), (max(spacing),) * 2
    return Clip(frames=frames, times=None, fps_source="unknown", spacing=spacing)


def read_label_maps(path: Path) -> np.ndarray:
    """Maps of `records.STRUCTURES`, uint8 [n, H, W], in the pixels of `read`.

    The values are CAMUS's (1 LV, 2 myocardium, 3 LA), which are ours.

    Raises:
        Rejected: `label_mismatch`.
    """
    try:
        frames, spacing = _read(path, still=True)
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # decoders raise anything; the path stays out of the message
        raise Rejected("label_mismatch", f"masks: {type(error).__name__}") from None
    if frames.max() >= len(STRUCTURES):
        raise Rejected("label_mismatch", "masks of unknown structures")
    return frames if _square(*spacing) else _squared(frames, spacing, cv2.INTER_NEAREST_EXACT)


def _square(rows: float, columns: float) -> bool:
    return not abs(rows - columns) > 0.01 * max(rows, columns)  # also where they are unknown


def _squared(frames: np.ndarray, spacing: tuple[float, float], method: int) -> np.ndarray:
    """[T, H, W] → [T, h, w] with pixels as large as the longer of their sides."""
    height, width = (
        max(1, round(n * s / max(spacing))) for n, s in zip(frames.shape[1:], spacing, strict=True)
    )
    return np.stack([cv2.resize(f, (width, height), interpolation=method) for f in frames])


def _read(path: Path, *, still: bool) -> Volume:
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        array, spacing = _nifti(path, still)
    else:
        array, spacing = _metaimage(path, still)
    frames = np.moveaxis(array, (0, 1, 2), (2, 1, 0))  # x, y, t → [T, H, W]
    if frames.dtype != np.uint8:
        if not (np.isfinite(frames).all() and frames.min() >= 0 and frames.max() <= 255):
            raise Rejected("unreadable", "values outside [0, 255]")
        frames = np.rint(frames).astype(np.uint8)
    rows, columns = spacing[1], spacing[0]
    if not (np.isfinite([rows, columns]).all() and rows > 0 and columns > 0):
        rows = columns = np.nan
    return Volume(np.ascontiguousarray(frames), (float(rows), float(columns)))


def _extent(shape: tuple[int, ...], still: bool) -> tuple[int, int, int]:
    """(x, y, t) of an announced shape, checked before memory is taken for it."""
    x, y, *rest = (*shape, 1) if len(shape) == 2 else shape
    rest = [n for n in rest if n != 1] or [1]  # some writers keep an empty depth
    if len(rest) > 1:
        raise Rejected("not_video", f"{len(shape)} dimensions")
    check_extent(rest[0], y, x, 8, still=still)  # up to 8 bytes a sample
    return x, y, rest[0]


def _nifti(path: Path, still: bool) -> tuple[np.ndarray, tuple[float, ...]]:
    import nibabel  # takes half a second

    image = nibabel.load(path)
    extent = _extent(image.shape, still)
    return np.asarray(image.dataobj).reshape(extent), image.header.get_zooms()


def pixel_file(path: Path) -> Path:
    """The file beside a MetaImage header that holds its pixels.

    Raises:
        Rejected: it names none, or several, or one that lies elsewhere.
    """
    return _pixel_file(path, _header(path))


def _pixel_file(path: Path, header: dict[str, str]) -> Path:
    name = header.get("ElementDataFile", "")
    if not name or name != Path(name).name or name.split()[0] in ("LOCAL", "LIST") or "%" in name:
        raise Rejected("unreadable", "pixels that lie elsewhere")
    return path.with_name(name)


def _header(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in lines)}


def _metaimage(path: Path, still: bool) -> tuple[np.ndarray, tuple[float, ...]]:
    header = _header(path)
    extent = _extent(tuple(int(n) for n in header["DimSize"].split()), still)
    if int(header.get("ElementNumberOfChannels", "1")) != 1:
        raise Rejected("unreadable", "several values a pixel")
    if not _is_true(header, "BinaryData", default=True):
        raise Rejected("unreadable", "pixels written as text")
    dtype = np.dtype(TYPES[header["ElementType"]]).newbyteorder(_byte_order(header))
    size = int(np.prod(extent)) * dtype.itemsize
    data = _pixels(_pixel_file(path, header), header, size)
    spacing = tuple(float(s) for s in header.get("ElementSpacing", "nan nan").split())
    return np.frombuffer(data, dtype).reshape(extent, order="F"), spacing


def _is_true(header: dict[str, str], key: str, *, default: bool = False) -> bool:
    value = header.get(key, str(default)).lower()
    if value not in ("true", "false"):
        raise Rejected("unreadable", f"{key} is neither True nor False")
    return value == "true"


def _byte_order(header: dict[str, str]) -> str:
    """Both keys are in use; little endian where neither is there."""
    said = {
        _is_true(header, key)
        for key in ("ElementByteOrderMSB", "BinaryDataByteOrderMSB")
        if key in header
    }
    if len(said) > 1:
        raise Rejected("unreadable", "two byte orders")
    return ">" if True in said else "<"


def _pixels(path: Path, header: dict[str, str], size: int) -> bytes:
    """So many bytes of pixels, all that the file holds behind a header of its own.

    Where it holds more, the image that is announced is another one.
    """
    skipped = int(header.get("HeaderSize", "0"))
    packed = _is_true(header, "CompressedData")
    if skipped < -1 or (skipped == -1 and packed):
        raise Rejected("unreadable", "a header of no size")
    with path.open("rb") as file:
        held = file.seek(0, 2)
        file.seek(max(held - size, 0) if skipped == -1 else skipped)  # -1: the pixels end the file
        if packed:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(file.read(MAX_BYTES_READ), size + 1)
            more = len(data) > size or bool(unpacker.unused_data)
        else:
            data = file.read(size)
            more = file.tell() < held
    if len(data) < size:
        raise Rejected("truncated", "fewer bytes than the image needs")
    if more:
        raise Rejected("unreadable", "more bytes than the image needs")
    return data
