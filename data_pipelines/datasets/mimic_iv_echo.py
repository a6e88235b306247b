"""MIMIC-IV-ECHO: DICOM files of 7,243 studies; clips of all modes, traces and stills.

    echo-record-list.csv   files/p10/p<subject>/s<study>/<study>_<number>.dcm

The list names the patient; the owners give no split, so that of ingestion applies. What
`structured-measurement.csv.gz` and the notes say of a study is not read: it belongs to studies,
not to clips. Stills, M-mode and spectral Doppler are refused as from any other source.
https://physionet.org/content/mimic-iv-echo/
"""

from pathlib import Path, PurePosixPath

from data_pipelines.datasets.tables import read_table
from data_pipelines.labels import Label
from data_pipelines.source import Source

TITLE = "MIMIC-IV-ECHO"
EXPECTED = ("echo-record-list.csv",)
PLACES = (".", "physionet.org/files/mimic-iv-echo/1.0", "physionet.org/files/mimic-iv-echo/0.1")
COLUMNS = ("subject_id", "study_id", "acquisition_datetime", "dicom_filepath")


def read(root: Path) -> Source:
    """DICOM files with their patients."""
    labels: dict[str, Label] = {}
    patients: dict[str, Label] = {}  # one label serves hundreds of files
    for row in read_table(root / EXPECTED[0], COLUMNS):
        subject, path = row.text("subject_id"), PurePosixPath(row.text("dicom_filepath"))
        if path.is_absolute() or ".." in path.parts:
            raise row.wrong("dicom_filepath", "does not lie below the data set")
        if path.as_posix() in labels:
            raise row.wrong("dicom_filepath", "was there before")
        labels[path.as_posix()] = patients.setdefault(subject, Label(patient=subject))
    unlisted = Label(problem=f"no row in {EXPECTED[0]}")
    for file in (root / "files").glob("**/*.dcm"):
        labels.setdefault(file.relative_to(root).as_posix(), unlisted)
    return Source(root, [root / name for name in labels], labels, precropped=False)
