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


def _metaimage(path: Path, still: bool) -> tuple[np.ndarray, tuple[float, ...]]:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    header = {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in lines)}
    extent = _extent(tuple(int(n) for n in header["DimSize"].split()), still)
    order = ">" if header.get("ElementByteOrderMSB", "").lower() == "true" else "<"
    dtype = np.dtype(TYPES[header["ElementType"]]).newbyteorder(order)
    name = header["ElementDataFile"]
    if name != Path(name).name or name == "LOCAL":
        raise Rejected("unreadable", "pixels that lie elsewhere")
    size = int(np.prod(extent)) * dtype.itemsize
    with path.with_name(name).open("rb") as file:
        if header.get("CompressedData", "").lower() == "true":
            data = zlib.decompressobj().decompress(file.read(MAX_BYTES_READ), size)
        else:
            data = file.read(size)
    if len(data) < size:
        raise Rejected("truncated", "fewer bytes than the image needs")
    spacing = tuple(float(s) for s in header.get("ElementSpacing", "nan nan").split())
    return np.frombuffer(data, dtype).reshape(extent, order="F"), spacing
