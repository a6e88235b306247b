"""Clips from multi-frame DICOM files: pixels as displayed in 8 bits, frame times, mode, patient.

Tags are those of DICOM PS3.3; the meaning of ImageType value 4 is in its C.8.5.6.1.1.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import simplejpeg
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import ImplicitVRLittleEndian, JPEGBaseline8Bit

from data_pipelines.arrays import RATES, check_extent
from data_pipelines.clip import Clip, Rejected

# Bits of ImageType value 4
TWO_D, COLOUR, POWER = 0x0001, 0x0010, 0x0100
TRACES = 0x0002 | 0x0004 | 0x0008 | 0x0020  # M-mode, CW Doppler, PW Doppler, colour M-mode

# Their messages may quote the header.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()


def read(path: Path) -> Clip:
    """Read a multi-frame DICOM file.

    Overlay planes are left out. Samples of more or fewer than 8 bits go through the window of the
    header where it has one, else through their stored range.

    Raises:
        Rejected: no clip, or less of it than the header announces.
    """
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # an invalid date does not matter here
        # The header alone: pydicom drops all of a data set whose pixels break off.
        header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        if "Rows" not in header or "Columns" not in header:
            raise Rejected(_why_no_image(header), "no image")
        mode = image_mode(header)
        count = int(header.get("NumberOfFrames") or 1)
        samples = int(header.get("SamplesPerPixel") or 1)
        channels = 3 if header.PhotometricInterpretation == "PALETTE COLOR" else samples
        check_extent(count, int(header.Rows), int(header.Columns), channels)
        times, fps_source = frame_times(header, count)
        file.seek(0)
        dataset = pydicom.dcmread(file, force=True)
        if "PixelData" not in dataset:
            raise Rejected("truncated", "no whole pixel data")
        frames = _decode(dataset, count)
        patient = str(header.get("PatientID") or "").strip()
    return Clip(frames=frames, times=times, fps_source=fps_source, patient=patient, mode=mode)


def _why_no_image(header: pydicom.Dataset) -> str:
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    if not kind:
        return "unreadable"
    return "truncated" if "Image Storage" in kind.name else "not_video"


def image_mode(dataset: pydicom.Dataset) -> str:
    """`b_mode`, `colour_doppler`, or empty where ImageType does not say.

    Raises:
        Rejected: an M-mode or a spectral Doppler trace, alone or beside an image.
    """
    values = dataset.get("ImageType") or []
    if len(values) < 4 or not re.fullmatch("[0-9A-Fa-f]{4}", str(values[3])):
        return ""
    bits = int(values[3], 16)
    if bits & TRACES:
        raise Rejected("m_mode_or_spectral", f"ImageType {bits:04x}")
    if bits & (COLOUR | POWER):
        return "colour_doppler"
    return "b_mode" if bits == TWO_D else ""


def frame_times(dataset: pydicom.Dataset, count: int) -> tuple[np.ndarray | None, str]:
    """Seconds of each frame from the first, [T], and the tag that says so.

    The order is FrameTime, FrameTimeVector, CineRate, RecommendedDisplayFrameRate; a tag whose
    value no machine can have is passed over.
    """

    def seconds(tag: str, convert) -> np.ndarray | None:
        try:
            with np.errstate(all="ignore"):
                steps = convert(np.asarray(dataset[tag].value, np.float64))
        except (KeyError, TypeError, ValueError):
            return None
        if steps.shape not in ((), (count,)):
            return None
        steps = np.broadcast_to(steps, count)[1:]  # the first frame follows no other
        if not np.all((steps >= 1 / RATES[1]) & (steps <= 1 / RATES[0])):
            return None
        return np.concatenate([[0.0], np.cumsum(steps)])

    for tag, convert in (
        ("FrameTime", lambda milliseconds: milliseconds / 1000),
        ("FrameTimeVector", lambda milliseconds: np.atleast_1d(milliseconds) / 1000),
        ("CineRate", lambda rate: 1 / rate),
        ("RecommendedDisplayFrameRate", lambda rate: 1 / rate),
    ):
        times = seconds(tag, convert)
        if times is not None:
            return times, tag
    return None, "unknown"


def _decode(dataset: pydicom.Dataset, count: int) -> np.ndarray:
    """uint8 [T, H, W] or [T, H, W, 3], with the colour space, table and window applied."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        to_8_bits = _palette(dataset)
    elif dataset.BitsStored == 8 and not dataset.get("PixelRepresentation"):
        to_8_bits = None
    else:
        to_8_bits = _window(dataset)
    frames, held = None, 0
    for held, decoded in enumerate(_raw_frames(dataset, count), start=1):
        frame = decoded if to_8_bits is None else to_8_bits(decoded)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            frame = 255 - frame
        if frames is None:
            frames = np.empty((count, *frame.shape), np.uint8)
        frames[held - 1] = frame
        if held == count:
            break
    if held < count:
        raise Rejected("truncated", f"{held} of {count} frames")
    return frames


def _raw_frames(dataset: pydicom.Dataset, count: int) -> Iterator[np.ndarray]:
    syntax = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if not syntax.is_encapsulated and len(dataset.PixelData) < _native_bytes(dataset, count):
        raise Rejected("truncated", "fewer bytes than the image needs")
    colour_space = dataset.PhotometricInterpretation
    if syntax == JPEGBaseline8Bit and colour_space not in ("RGB", "PALETTE COLOR"):
        # Ten times as fast as pydicom's way. An RGB tag may contradict the JPEG's own markers,
        # which pydicom sorts out.
        grey = dataset.SamplesPerPixel == 1
        for data in generate_frames(dataset.PixelData, number_of_frames=count):
            if simplejpeg.decode_jpeg_header(data)[:2] != (dataset.Rows, dataset.Columns):
                raise Rejected("unreadable", "the frame size differs from the header's")
            frame = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB")
            yield frame[..., 0] if grey else frame
        return
    # The decoder converts YBR to RGB and the tag still says YBR: who converts by the tag converts
    # twice.
    decoder = get_decoder(syntax)
    if syntax.is_encapsulated:
        for frame, _ in decoder.iter_array(dataset, raw=False):
            yield frame
    else:  # iter_array takes the second frame of YBR_FULL_422 for YBR_FULL (pydicom 3.0.2)
        for index in range(count):
            yield decoder.as_array(dataset, index=index, raw=False)[0]


def _native_bytes(dataset: pydicom.Dataset, count: int) -> int:
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
    return count * dataset.Rows * dataset.Columns * samples * dataset.BitsAllocated // 8


def _palette(dataset: pydicom.Dataset):
    """A function from [H, W] indices to [H, W, 3] colours."""
    table = apply_color_lut(np.arange(2**dataset.BitsStored), dataset)  # [entries, 3]
    if table.max() > 255:
        table = table >> 8
    table = table.astype(np.uint8)
    return lambda indices: table[indices]


def _window(dataset: pydicom.Dataset):
    """A function from stored values to 8 bits: the linear window of PS3.3 C.11.2.1.2.1."""
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation"))
    low = -(2.0 ** (bits - 1)) if signed else 0.0
    high = low + 2.0**bits - 1
    try:
        slope = float(dataset.get("RescaleSlope", 1))
        intercept = float(dataset.get("RescaleIntercept", 0))
        centre = float(np.ravel(dataset.WindowCenter)[0])
        width = float(np.ravel(dataset.WindowWidth)[0])
    except (AttributeError, IndexError, TypeError, ValueError):
        pass
    else:
        if slope > 0 and width > 1 and np.isfinite(centre + width + intercept):
            low = (centre - 0.5 - (width - 1) / 2 - intercept) / slope
            high = (centre - 0.5 + (width - 1) / 2 - intercept) / slope
    scale = 255 / (high - low)
    return lambda stored: np.rint(np.clip((stored - low) * scale, 0, 255)).astype(np.uint8)
