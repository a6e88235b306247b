"""TMED-2: stills of 576 patients with views and grades of aortic stenosis.

    DEV479/TMED2_fold0_labeledpart.csv
    FOLDER/*.png   where the column SourceFolder says, or anywhere below

Pictures of one study are unrelated stills, not frames of a video. A study is `4860s1`: patients
with two studies stay in one split. The split is that of the diagnosis in fold 0; five grades
become three, as the owners' own work has them. https://tmed.cs.tufts.edu/
"""

import re
from pathlib import Path, PurePosixPath

from data_pipelines.datasets.tables import SPLITS, Row, join, read_table, split_by_patient
from data_pipelines.labels import Label
from data_pipelines.records import GRADES
from data_pipelines.source import Source

TITLE = "TMED-2"
EXPECTED = ("DEV479/TMED2_fold0_labeledpart.csv",)
PLACES = (".", "approved_users_only")
COLUMNS = ("query_key", "view_label", "diagnosis_label", "SourceFolder", "view_classifier_split",
           "diagnosis_classifier_split")  # fmt: skip
UNUSED = ("",)  # rows are numbered in a column without a name
VIEWS = {"PLAX": "PLAX", "PSAX": "PSAX", "A4C": "A4C", "A2C": "A2C", "A4CorA2CorOther": "other",
         "Not_Provided": ""}  # fmt: skip
STENOSIS = {"no_AS": "none", "mild_AS": "early", "mildtomod_AS": "early",
            "moderate_AS": "significant", "severe_AS": "significant"}  # fmt: skip
DIAGNOSES = {name: GRADES.index(grade) for name, grade in STENOSIS.items()} | {"Not_Provided": -1}


def read(root: Path) -> Source:
    """Stills with view, split and grade of aortic stenosis."""
    table = root / EXPECTED[0]
    rows = {}
    for row in read_table(table, COLUMNS, ignored=UNUSED):
        if (key := row.stem("query_key").removesuffix(".png")) in rows:
            raise row.wrong("query_key", "was there before")
        rows[key] = row
    patients = {key: _patient(row, key) for key, row in rows.items()}
    splits = split_by_patient((patients[key], _split(row)) for key, row in rows.items())
    known = {
        key: Label(
            patient=patients[key],
            view=row.choice("view_label", VIEWS),
            split=splits[patients[key]],
            aortic_stenosis=row.choice("diagnosis_label", DIAGNOSES),
            still=True,
        )
        for key, row in rows.items()
    }
    files, labels = join(
        root,
        root.glob("**/*.png"),
        known,
        table.name,
        lambda key: root / _folder(rows[key]) / f"{key}.png",
    )
    return Source(root, files, labels, precropped=True)


def _folder(row: Row) -> PurePosixPath:
    folder = PurePosixPath(row.values["SourceFolder"].strip())
    if folder.is_absolute() or ".." in folder.parts:
        raise row.wrong("SourceFolder", "does not lie below the data set")
    return folder


def _patient(row: Row, key: str) -> str:
    if not (found := re.fullmatch(r"(\d+)s\d+_\d+", key)):
        raise row.wrong("query_key", "is not PATIENTsSTUDY_IMAGE.png")
    return found[1]


def _split(row: Row) -> str:
    """That of the diagnosis; for what has none, that of the view; else by hash."""
    columns = "diagnosis_classifier_split", "view_classifier_split"
    return next((s for s in (row.values[c].strip() for c in columns) if s in SPLITS), "")
