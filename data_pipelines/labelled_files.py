"""One labelled file: what is known of it as targets, and how its pixels are read."""

import dataclasses
import math
import warnings
from pathlib import Path

import numpy as np

from data_pipelines import records
from data_pipelines.cleaned_file import read_cleaned
from data_pipelines.clip import Rejected
from data_pipelines.labelled import Pixels
from data_pipelines.labels import VALVES, Label, check_frames
from data_pipelines.one_file import stamps
from data_pipelines.readers import DICOM_SUFFIXES


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileReader:
    """Reads and cleans a file of any format; 20 to 200 ms, so `labelled_cache` keeps the result."""

    path: Path
    label: Label
    fps: float = 0.0  # of files that do not tell theirs; 0 = unknown
    precropped: bool = False
    structures: tuple[str, ...] = records.STRUCTURES  # what values of masks stand for

    def __call__(self, size: int, colour: bool) -> Pixels:
        """All frames of the file; masks lie inside the sector, as those of a data set of shards.

        Raises:
          Rejected: no usable clip; a mask of another size, of another frame, or of more values
            than there are structures.
        """
        cleaned = read_cleaned(
            self.path, self.label, size=size, colour=colour, fps=self.fps,
            precropped=self.precropped,
        )  # fmt: skip
        check_frames(self.label, len(cleaned.frames), {*cleaned.masks, *cleaned.points})
        for frame, mask in cleaned.masks.items():
            if mask.max() >= (known := len(self.structures)):
                raise Rejected(
                    "label_mismatch",
                    f"the mask of frame {frame} holds {mask.max()}: {known} structures are named, "
                    f"0 to {known - 1}",
                )
        return Pixels(
            frames=cleaned.frames,
            sector=cleaned.sector,
            fps=cleaned.fps,
            spacing=cleaned.spacing,
            masks={f: np.where(cleaned.sector, m, 0) for f, m in cleaned.masks.items()},
            points=cleaned.points,
            end_diastole=tuple(sorted(cleaned.points.keys() & set(self.label.end_diastole))),
        )

    @property
    def key(self) -> str:
        """What its pixels depend on: the same key, the same pixels."""
        label = self.label
        shown = (
            label.fps,
            label.tracings,
            label.mask_files,
            label.points,
            label.spacing,
            label.still,
        )
        fits = len(label.phase), label.end_diastole, label.end_systole  # or is refused
        return repr((self.path.absolute(), stamps(self.path, label), shown, fits, self.fps,
                     self.precropped, self.structures))  # fmt: skip


def targets(label: Label) -> dict[str, str | float]:
    """What is known, under the names that `labelled_shards.targets` has."""
    words = {"view": label.view, "rhythm": label.rhythm}
    for valve in VALVES:
        grade = getattr(label, valve)
        words[valve] = records.GRADES[grade] if grade >= 0 else ""
    numbers = {"ejection_fraction": label.ejection_fraction, **dict(label.measurements)}
    return {name: text for name, text in words.items() if text} | {
        name: float(number) for name, number in numbers.items() if math.isfinite(number)
    }


def masked(label: Label) -> bool:
    """Whether any frame has a label map."""
    return bool(label.tracings or label.mask_files)


def patient_of(path: Path, folders: tuple[str, ...], name: str) -> str:
    """Whose clip it is where nobody says so: the first of `folders`, the header's, or its own."""
    return (folders[0] if folders else header_patient(path)) or name


def header_patient(path: Path) -> str:
    """PatientID of a DICOM file; empty where there is none, or no such file."""
    from pydicom import dcmread, misc

    if path.suffix.lower() not in DICOM_SUFFIXES and not misc.is_dicom(path):
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what else the header holds
        try:
            header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=["PatientID"])
            return str(header.get("PatientID") or "").strip()
        except Exception:  # anything, of a damaged file: it is refused when its pixels are read
            return ""
