"""Simulated clips as the files a hospital has: what the screen shows, in real formats.

Names, numbers and dates are invented; they are drawn and written so that de-identification has
something to remove. Every DICOM says that it is simulated.
"""

import datetime
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import simplejpeg
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless, generate_uid

from data_pipelines.phantom_image import PhantomClip
from data_pipelines.phantom_screen import OVERLAYS, screen

SURNAMES = ("ALMADOR", "BRISKETT", "CORVANE", "DULWITH", "ESTERMAN", "FOLGRAVE", "GRINSTEL")
ULTRASOUND_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"


def identity(study: int, seed: int) -> dict[str, str]:
    """An invented patient: name, number and dates, the same for the same study and seed."""
    rng = np.random.default_rng([seed, study, 7])
    born = datetime.date(1935, 1, 1) + datetime.timedelta(days=int(rng.integers(22000)))
    seen = datetime.date(2019, 1, 1) + datetime.timedelta(days=int(rng.integers(1800)))
    return {
        "name": f"{SURNAMES[study % len(SURNAMES)]}^{'ABCDEFGH'[study % 8]}{study}",
        "id": f"SIM{seed:03d}{study:04d}{rng.integers(10**4):04d}",
        "born": f"{born:%Y%m%d}",
        "seen": f"{seen:%Y%m%d}",
    }


def write_dicom(
    path: Path,
    clip: PhantomClip,
    person: dict[str, str],
    coding: str,
    overlays: Sequence[str] = OVERLAYS,
) -> None:
    """Ultrasound multi-frame (DICOM PS3.3 A.7); `coding` is raw, rle, jpeg or ybr_jpeg."""
    frames = screen(clip, person, overlays=overlays)
    colour = frames.ndim == 4
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ULTRASOUND_MULTIFRAME
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[person["id"], path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=[person["id"]])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[person["id"], "series"])
    data.PatientName, data.PatientID = person["name"], person["id"]
    data.PatientBirthDate, data.StudyDate = person["born"], person["seen"]
    data.Modality, data.Manufacturer = "US", "Simulated"
    data.SeriesDescription = data.ImageComments = "SIMULATED"
    data.ImageType = ["ORIGINAL", "PRIMARY", "", "0011" if colour else "0001"]
    data.FrameTime = f"{1000 / clip.fps:.6f}"
    data.CineRate = data.RecommendedDisplayFrameRate = round(clip.fps)
    data.HeartRate = round(clip.heart_rate)
    shown = clip.r_waves[(clip.r_waves >= 0) & (clip.r_waves <= clip.times[-1])]
    data.RWaveTimeVector = [1000 * seconds for seconds in shown.tolist()]
    data.BurnedInAnnotation = "YES" if "text" in overlays else "NO"
    data.SequenceOfUltrasoundRegions = [region(clip)]
    data.NumberOfFrames, data.Rows, data.Columns = frames.shape[:3]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    if colour:
        data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = frames.tobytes()
    data["PixelData"].VR = "OB"
    if coding == "rle":
        data.compress(RLELossless, generate_instance_uid=False)
    elif coding in ("jpeg", "ybr_jpeg"):
        colour = colour or coding == "ybr_jpeg"
        meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.PixelData = encapsulate([jpeg(frame, colour) for frame in frames])
        data["PixelData"].is_undefined_length = True
        if colour:
            data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
            data.PhotometricInterpretation = "YBR_FULL_422"
    data.save_as(path, enforce_file_format=True)


def jpeg(frame: np.ndarray, colour: bool) -> bytes:
    """One frame [H, W] or [H, W, 3] as JPEG baseline, grey or YCbCr 4:2:2."""
    if colour:
        rgb = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, -1)
        return simplejpeg.encode_jpeg(rgb, quality=95, colorsubsampling="422")
    return simplejpeg.encode_jpeg(frame[..., None], quality=95, colorspace="GRAY")


def region(clip: PhantomClip) -> Dataset:
    """The sector's bounding box as an ultrasound region (PS3.3 C.8.5.5): tissue, or colour flow."""
    rows, columns = np.flatnonzero(clip.sector.any(1)), np.flatnonzero(clip.sector.any(0))
    item = Dataset()
    item.RegionSpatialFormat, item.RegionFlags = 1, 0
    item.RegionDataType = 2 if clip.frames.ndim == 4 else 1
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = int(columns[0]), int(columns[-1])
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = int(rows[0]), int(rows[-1])
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3  # centimetres
    item.PhysicalDeltaX = item.PhysicalDeltaY = 1 / clip.pixels
    return item


def write_video(
    path: Path,
    clip: PhantomClip,
    person: dict[str, str],
    codec: str,
    overlays: Sequence[str] = OVERLAYS,
) -> None:
    """A screen recording: `mjpeg` for AVI, `mpeg4` or `libx264` for MP4."""
    rate = Fraction(clip.fps).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = "SIMULATED"
        stream = container.add_stream(codec, rate=rate)
        frames = screen(clip, person, overlays=overlays)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 8_000_000
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="gray" if image.ndim == 2 else "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_npy(
    path: Path, clip: PhantomClip, person: dict[str, str], overlays: Sequence[str] = ()
) -> None:
    """The sector's bounding box without person and overlays, [T, H, W] or [T, H, W, 3] uint8."""
    np.save(path, clip.frames[(slice(None), *shown(clip, path.suffix))])


def shown(clip: PhantomClip, suffix: str) -> tuple[slice, slice]:
    """Rows and columns of the simulated frames that a file shows: npy the sector's box alone."""
    if suffix != ".npy":
        return slice(None), slice(None)
    rows, columns = np.flatnonzero(clip.sector.any(1)), np.flatnonzero(clip.sector.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


# What the clips of a study are written as, in turn: suffix and writer, called with path, clip,
# person and overlays.
FORMATS: tuple[tuple[str, Callable], ...] = (
    (".dcm", lambda *a, **k: write_dicom(*a, "raw", **k)),
    (".avi", lambda *a, **k: write_video(*a, "mjpeg", **k)),
    (".dcm", lambda *a, **k: write_dicom(*a, "jpeg", **k)),
    (".mp4", lambda *a, **k: write_video(*a, "libx264", **k)),
    (".npy", write_npy),
    (".dcm", lambda *a, **k: write_dicom(*a, "rle", **k)),
    (".dcm", lambda *a, **k: write_dicom(*a, "ybr_jpeg", **k)),
)
