"""Simulated clips as the files a hospital has: a screen with overlays, in real formats.

Names, numbers and dates are invented; they are drawn and written so that de-identification has
something to remove. Every DICOM says that it is simulated.
"""

import datetime
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless, generate_uid

from data_pipelines.phantom_image import PhantomClip

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


def screen(clip: PhantomClip, person: dict[str, str], baseline: float | None = None) -> np.ndarray:
    """The clip with banner, ruler, logo, ECG and frame counter around the sector.

    Returns [T, H, W] uint8. Inside the sector nothing is changed, but where the ECG is asked to
    have its `baseline` at that share of the screen's height.
    """
    frames = clip.frames.copy()
    height, width = frames.shape[1:]
    still = np.zeros((height, width), np.uint8)
    small = height / 480 * 0.45
    text = lambda image, words, x, y: cv2.putText(  # noqa: E731
        image, words, (int(x), int(y)), cv2.FONT_HERSHEY_SIMPLEX, small, 210, 1, cv2.LINE_AA
    )
    text(still, f"{person['name'].replace('^', ', ')}  {person['id']}", 6, 0.035 * height)
    text(still, f"DOB {person['born']}  {person['seen']}", 6, 0.07 * height)
    text(still, "SIMULATED", 0.80 * width, 0.035 * height)
    cv2.circle(still, (int(0.95 * width), int(0.09 * height)), int(0.02 * height), 160, -1)
    for tick in np.linspace(0.12, 0.85, 9):
        cv2.line(still, (width - 14, int(tick * height)), (width - 6, int(tick * height)), 200, 1)
    trace = clip.ecg.ravel()
    trace = (trace - trace.min()) / max(np.ptp(trace), 1e-6)
    x = np.linspace(6, width - 20, trace.size)
    points = np.stack([x, ((baseline or 0.98) - 0.07 * trace) * height], -1)
    per_frame = clip.ecg.shape[1]
    for t, frame in enumerate(frames):
        drawn = still.copy()
        text(drawn, f"{t + 1}/{len(frames)}", 6, 0.12 * height)
        text(drawn, f"{clip.heart_rate:.0f} bpm", 6, 0.16 * height)
        traced = np.zeros_like(drawn)
        now = np.int32(points[: (t + 1) * per_frame])
        cv2.polylines(traced, [now], False, 220, 1, cv2.LINE_AA)
        shown = ~clip.sector if baseline is None else np.ones_like(clip.sector)
        np.maximum(frame, drawn, out=frame, where=~clip.sector)
        np.maximum(frame, traced, out=frame, where=shown)
    return frames


def write_dicom(path: Path, clip: PhantomClip, person: dict[str, str], coding: str) -> None:
    """Ultrasound multi-frame (DICOM PS3.3 A.7); `coding` is raw, rle, jpeg or ybr_jpeg."""
    frames = screen(clip, person)
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
    data.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    data.FrameTime = f"{1000 / clip.fps:.6f}"
    data.CineRate = data.RecommendedDisplayFrameRate = round(clip.fps)
    data.HeartRate = round(clip.heart_rate)
    data.BurnedInAnnotation = "YES"
    data.SequenceOfUltrasoundRegions = [region(clip.sector)]
    data.NumberOfFrames, data.Rows, data.Columns = frames.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = frames.tobytes()
    data["PixelData"].VR = "OB"
    if coding == "rle":
        data.compress(RLELossless, generate_instance_uid=False)
    elif coding in ("jpeg", "ybr_jpeg"):
        colour = coding == "ybr_jpeg"
        meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.PixelData = encapsulate([jpeg(frame, colour) for frame in frames])
        data["PixelData"].is_undefined_length = True
        if colour:
            data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
            data.PhotometricInterpretation = "YBR_FULL_422"
    data.save_as(path, enforce_file_format=True)


def jpeg(frame: np.ndarray, colour: bool) -> bytes:
    """One frame as JPEG baseline, grey or YCbCr 4:2:2."""
    if colour:
        return simplejpeg.encode_jpeg(
            np.repeat(frame[..., None], 3, -1), quality=95, colorsubsampling="422"
        )
    return simplejpeg.encode_jpeg(frame[..., None], quality=95, colorspace="GRAY")


def region(sector: np.ndarray) -> Dataset:
    """The sector's bounding box as an ultrasound region (PS3.3 C.8.5.5), 2D tissue."""
    rows, columns = np.flatnonzero(sector.any(1)), np.flatnonzero(sector.any(0))
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = int(columns[0]), int(columns[-1])
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = int(rows[0]), int(rows[-1])
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    return item


def write_video(path: Path, clip: PhantomClip, person: dict[str, str], codec: str) -> None:
    """A screen recording: `mjpeg` for AVI, `mpeg4` or `libx264` for MP4."""
    rate = Fraction(clip.fps).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = "SIMULATED"
        stream = container.add_stream(codec, rate=rate)
        frames = screen(clip, person)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 8_000_000
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_npy(path: Path, clip: PhantomClip, person: dict[str, str]) -> None:
    """The sector's bounding box without overlays, [T, H, W] uint8."""
    rows, columns = np.flatnonzero(clip.sector.any(1)), np.flatnonzero(clip.sector.any(0))
    np.save(path, clip.frames[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


# What the clips of a study are written as, in turn: suffix and writer.
FORMATS: tuple[tuple[str, Callable], ...] = (
    (".dcm", lambda *a: write_dicom(*a, "raw")),
    (".avi", lambda *a: write_video(*a, "mjpeg")),
    (".dcm", lambda *a: write_dicom(*a, "jpeg")),
    (".mp4", lambda *a: write_video(*a, "libx264")),
    (".npy", write_npy),
    (".dcm", lambda *a: write_dicom(*a, "rle")),
    (".dcm", lambda *a: write_dicom(*a, "ybr_jpeg")),
)
