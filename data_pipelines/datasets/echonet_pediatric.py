"""EchoNet-Pediatric: videos of children in two views with ejection fractions and tracings.

    A4C/   PSAX/   each with FileList.csv, VolumeTracings.csv and Videos/*.avi

A file's name begins with its patient's key. The owners give ten folds: as in public work the
first is the test set and the second validates; a patient with files in several of these is in the
strictest one alone. https://echonet.github.io/pediatric/
"""

from pathlib import Path

from data_pipelines.datasets.tables import join, read_table, split_by_patient
from data_pipelines.datasets.volume_tracings import Traced, read_tracings
from data_pipelines.labels import Label
from data_pipelines.source import Source
from echofm_jax.errors import InputError

TITLE = "EchoNet-Pediatric"
EXPECTED = ("*/FileList.csv", "*/VolumeTracings.csv")
PLACES = (".", "pediatric_echo_avi", "pediatric_echo_avi/pediatric_echo_avi")
VIEWS = ("A4C", "PSAX")
COLUMNS = ("FileName", "EF", "Split")
UNUSED = ("Sex", "Age", "Weight", "Height")
FOLDS = {"0": "test", "1": "val"} | {str(fold): "train" for fold in range(2, 10)}


def read(root: Path) -> Source:
    """Videos with view, split, ejection fraction, ED and ES frames and masks."""
    views = [view for view in VIEWS if (root / view / "FileList.csv").is_file()]
    if not views:
        raise InputError(f"{root}: no {TITLE}: expected {' or '.join(VIEWS)} with FileList.csv")
    rows = {
        view: list(read_table(root / view / "FileList.csv", COLUMNS, ignored=UNUSED))
        for view in views
    }
    splits = split_by_patient(
        (patient(row.stem("FileName")), row.choice("Split", FOLDS))
        for view in views
        for row in rows[view]
    )
    files, labels = [], {}
    for view in views:
        found, known = _read_view(root, view, rows[view], splits)
        files += found
        labels |= known
    return Source(root, files, labels, precropped=True)


def patient(stem: str) -> str:
    """The patient's key in a file's name."""
    return stem.split("-")[0]


def _read_view(root: Path, view: str, rows, splits) -> tuple[list[Path], dict[str, Label]]:
    folder = root / view
    traced = read_tracings(folder / "VolumeTracings.csv")
    known: dict[str, Label] = {}
    for row in rows:
        stem = row.stem("FileName")
        if stem in known:
            raise row.wrong("FileName", "was there before")
        tracings, diastole, systole = traced.get(stem, Traced((), (), ()))
        known[stem] = Label(
            patient=patient(stem),
            view=view,
            split=splits[patient(stem)],
            ejection_fraction=row.number("EF", 0, 100),
            end_diastole=diastole,
            end_systole=systole,
            tracings=tracings,
        )
    for stem in traced.keys() - known.keys():
        known[stem] = Label(problem="traced, but no row in FileList.csv")
    videos = folder / "Videos"
    found = videos.iterdir() if videos.is_dir() else ()
    return join(
        root,
        (path for path in found if path.suffix.lower() == ".avi"),
        known,
        f"{view}/FileList.csv",
        lambda stem: videos / f"{stem}.avi",
    )
