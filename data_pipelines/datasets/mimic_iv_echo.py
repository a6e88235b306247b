"""MIMIC-IV-ECHO: DICOM files of 7,243 studies; clips of all modes, traces and stills.

    echo-record-list.csv   files/p10/p<subject>/s<study>/<study>_<number>.dcm
    echo-study-list.csv   structured-measurement.csv.gz    of version 1.0: measurements of studies

The list names the patient; the owners give no split, so that of ingestion applies. Where both other
tables are there, every clip of a study has its ejection fraction (`lvef`), whatever it shows; names
and columns are those that public readers of the table use. Other measurements and the notes are
not read. Stills, M-mode and spectral Doppler are refused as from any other source.
https://physionet.org/content/mimic-iv-echo/
"""

import collections
import math
from pathlib import Path, PurePosixPath

from data_pipelines.datasets.tables import read_table
from data_pipelines.labels import Label
from data_pipelines.source import Source

TITLE = "MIMIC-IV-ECHO"
EXPECTED = ("echo-record-list.csv",)
PLACES = (".", "physionet.org/files/mimic-iv-echo/1.0", "physionet.org/files/mimic-iv-echo/0.1")
COLUMNS = ("subject_id", "study_id", "acquisition_datetime", "dicom_filepath")
STUDY_COLUMNS = ("subject_id", "study_id", "study_datetime", "note_id", "note_seq",
                 "note_charttime")  # fmt: skip
MEASURED = ("measurement_id", "measurement_datetime")  # of the study list, since 1.0
MEASUREMENT_COLUMNS = ("subject_id", *MEASURED, "test_type", "measurement", "result", "unit")


def read(root: Path) -> Source:
    """DICOM files with their patients, and the ejection fractions of their studies."""
    labels: dict[str, Label] = {}
    known: dict[tuple[str, float], Label] = {}  # one label serves hundreds of files
    fractions = ejection_fractions(root)
    for row in read_table(root / EXPECTED[0], COLUMNS):
        subject, path = row.text("subject_id"), PurePosixPath(row.text("dicom_filepath"))
        if path.is_absolute() or ".." in path.parts:
            raise row.wrong("dicom_filepath", "does not lie below the data set")
        if path.as_posix() in labels:
            raise row.wrong("dicom_filepath", "was there before")
        fraction = fractions.get(row.text("study_id"), math.nan)
        label = Label(patient=subject, ejection_fraction=fraction)
        labels[path.as_posix()] = known.setdefault((subject, fraction), label)
    unlisted = Label(problem=f"no row in {EXPECTED[0]}")
    for file in (root / "files").glob("**/*.dcm"):
        labels.setdefault(file.relative_to(root).as_posix(), unlisted)
    return Source(root, [root / name for name in labels], labels, precropped=False)


def ejection_fractions(root: Path) -> dict[str, float]:
    """{study: percent}, of studies with one numeric `lvef`, or several that agree."""
    studies = root / "echo-study-list.csv"
    tables = [root / f"structured-measurement.csv{suffix}" for suffix in (".gz", "")]
    table = next((path for path in tables if path.is_file()), None)
    if table is None or not studies.is_file():
        return {}
    measured = {
        row.values["measurement_id"].strip(): row.text("study_id")
        for row in read_table(studies, STUDY_COLUMNS, (*STUDY_COLUMNS, *MEASURED))
        if row.values.get("measurement_id", "").strip()
    }
    found = collections.defaultdict(set)
    for row in read_table(table, MEASUREMENT_COLUMNS, ignored=("measurement_description",)):
        study = measured.get(row.values["measurement_id"].strip())
        if study and row.values["measurement"].strip() == "lvef":
            found[study].add(percent(row.values["result"]))
    return {study: values.pop() for study, values in found.items() if len(values) == 1}


def percent(result: str) -> float:
    """A result as a percentage; NaN where it is a range, a word or no percentage."""
    try:
        value = float(result)
    except ValueError:
        return math.nan
    return value if 0 <= value <= 100 else math.nan
