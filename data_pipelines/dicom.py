"""Clips from multi-frame DICOM files: pixels as displayed, and what the header says of them.

Nothing leaves the header but numbers, words of fixed vocabularies, and PatientID, to be hashed.
Pixels are decoded in `dicom_pixels`, times in `dicom_timing`, regions in `dicom_regions`, the mode
in `modes`. Tags are those of DICOM PS3.3.
"""

import functools
import logging
import warnings
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from data_pipelines import dicom_pixels, dicom_regions, dicom_timing, modes
from data_pipelines.arrays import check_extent
from data_pipelines.clip import Clip, Rejected

NO_AGENT = ("", "NO", "NONE", "N/A", "0")  # what some machines write where none was given

# Their messages may quote the header.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()


def read(path: Path, *, colour: bool = True) -> Clip:
    """Read a multi-frame DICOM file.

    Without `colour`, frames are grey where the header says that no flow is shown; the clip tells
    which pixels are coloured, if any are. Overlay planes are left out. Samples of more or fewer
    than 8 bits go through the window of the header where it has one, else their stored range.

    Raises:
        Rejected: no clip, or less of it than the header announces.
    """
    # Headers are read in many small pieces.
    with warnings.catch_warnings(), path.open("rb", buffering=1 << 20) as file:
        warnings.simplefilter("ignore")  # an invalid date does not matter here
        dicom_pixels.check_bytes(path)
        # The header alone: pydicom drops all of a data set whose pixels break off.
        header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        if "Rows" not in header or "Columns" not in header:
            raise Rejected(_why_no_image(header), "no image")
        regions = dicom_regions.read_regions(header)
        mode = modes.from_tags(header.get("ImageType") or (), regions, _contrast(header))
        count = int(header.get("NumberOfFrames") or 1)
        samples = int(header.get("SamplesPerPixel") or 1)
        channels = 3 if header.PhotometricInterpretation == "PALETTE COLOR" else samples
        check_extent(count, int(header.Rows), int(header.Columns), channels)
        times, fps_source, note = dicom_timing.frame_times(header, count)
        if header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            file.seek(0)
            header = pydicom.dcmread(file, force=True)
        else:  # on from where the pixels begin
            header.update(read_dataset(file, *header.original_encoding))
        if "PixelData" not in header:
            raise Rejected("truncated", "no whole pixel data")
        frames, coloured = dicom_pixels.decode(
            header, count, grey=mode in ("b_mode", "contrast") and not colour
        )
        return Clip(
            frames=frames, times=times, fps_source=fps_source, note=note, mode=mode,
            coloured=coloured, in_colour=functools.partial(_in_colour, path),
            patient=str(header.get("PatientID") or "").strip(),
            regions=regions, spacing=dicom_regions.spacing(regions),
            heart_rate=dicom_timing.heart_rate(header),
            r_waves=dicom_timing.r_waves(header, times),
        )  # fmt: skip


def _in_colour(path: Path) -> np.ndarray:
    return read(path).frames


def _why_no_image(header: pydicom.Dataset) -> str:
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    if not kind:
        return "unreadable"
    return "truncated" if "Image Storage" in kind.name else "not_video"


def _contrast(header: pydicom.Dataset) -> bool:
    """Whether a contrast agent was given."""
    agent = str(header.get("ContrastBolusAgent") or "").strip().upper()
    return agent not in NO_AGENT or bool(header.get("ContrastBolusAgentSequence"))
