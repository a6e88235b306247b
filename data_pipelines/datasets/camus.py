"""CAMUS: half a cardiac cycle of 500 patients in two apical views, every frame segmented.

    database_nifti/patient0001/patient0001_{2CH,4CH}_half_sequence[_gt].nii.gz  Info_{2CH,4CH}.cfg
    database_split/subgroup_{training,validation,testing}.txt

or, as it was distributed first, with masks of ED and ES alone and without a frame rate:

    {training,testing}/patient0001/patient0001_{2CH,4CH}_sequence.mhd
                                   patient0001_{2CH,4CH}_{ED,ES}_gt.mhd  Info_{2CH,4CH}.cfg

There each group counts its patients from 1: `training/patient0001` and `testing/patient0001` are
two people. The single ED and ES pictures are frames of the sequences and are not read twice. Half
a cycle is too short for a periodic objective. https://www.creatis.insa-lyon.fr/Challenge/camus/
"""

import dataclasses
import re
from pathlib import Path

from data_pipelines.datasets.tables import Row
from data_pipelines.labels import Label
from data_pipelines.source import Source
from echofm_jax.errors import InputError

TITLE = "CAMUS"
EXPECTED = ("**/patient*/Info_?CH.cfg",)
PLACES = ("database_nifti", "CAMUS_public/database_nifti", ".")
VIEWS = {"2CH": "A2C", "4CH": "A4C"}
KEYS = ("ED", "ES", "NbFrame")
UNUSED = ("Sex", "Age", "ImageQuality")
OPTIONAL = ("EF", "FrameRate", "LVef", "LVedv", "LVesv")
GROUPS = {"training": "train", "validation": "val", "testing": "test"}


def read(root: Path) -> Source:
    """Sequences with view, split, rate, ejection fraction, volumes, ED, ES and masks."""
    splits = _splits(root)
    folders: dict[str, Path] = {}
    for folder in sorted(p for p in root.glob("**/patient*") if p.is_dir()):
        patient = _patient(folder)
        if folders.setdefault(patient, folder) != folder:
            raise InputError(f"{root}: two folders of {patient}: name the one that holds one copy")
    files, labels = [], {}
    for patient in sorted(folders.keys() | splits.keys()):
        folder = folders.get(patient, root / patient)
        split = splits.get(patient) or GROUPS.get(folder.parent.name, "")
        for view in VIEWS:
            file = _sequence(folder, view)
            label = _label(folder, view, file)
            files.append(file)
            labels[file.relative_to(root).as_posix()] = dataclasses.replace(
                label, patient=patient, view=VIEWS[view], split=split
            )
    return Source(root, files, labels, precropped=True)


def _patient(folder: Path) -> str:
    """Who it is: in the first layout the group belongs to the name."""
    group = folder.parent.name
    return f"{group}/{folder.name}" if group in GROUPS else folder.name


def _sequence(folder: Path, view: str) -> Path:
    """A view's sequence; in the present layout where there is none."""
    old = folder / f"{folder.name}_{view}_sequence.mhd"
    return old if old.exists() else folder / f"{folder.name}_{view}_half_sequence.nii.gz"


def _label(folder: Path, view: str, file: Path) -> Label:
    if not folder.exists():
        return Label()
    info = folder / f"Info_{view}.cfg"
    if not info.exists():
        return Label(problem=f"no {info.name}")
    row = _read_info(info)
    try:
        return _told(row, file)
    except InputError as error:  # a wrong value is one file's; a wrong key, the data set's
        return Label(problem=str(error))


def _told(row: Row, file: Path) -> Label:
    """What the description of a sequence says; raises InputError where it makes no sense."""
    count = row.whole("NbFrame")
    diastole, systole = row.whole("ED") - 1, row.whole("ES") - 1  # some run from ES to ED
    for key, frame in (("ED", diastole), ("ES", systole)):
        if not 0 <= frame < count:
            raise row.wrong(key, "does not lie within NbFrame")
    return Label(
        fps=row.rate("FrameRate"),
        ejection_fraction=row.number("EF" if row.values["EF"] else "LVef", 0, 100),
        end_diastole=(diastole,),
        end_systole=(systole,),
        mask_files=_masks(file, diastole, systole),
        measurements=(
            ("end_diastolic_volume", row.number("LVedv", 0)),
            ("end_systolic_volume", row.number("LVesv", 0)),
        ),
    )


def _masks(file: Path, diastole: int, systole: int) -> tuple[tuple[str, int], ...]:
    """Masks of every frame where there are some, else of ED and ES; a test set may have none."""
    old = file.suffix == ".mhd"
    kind, suffix = ("sequence", ".mhd") if old else ("half_sequence", ".nii.gz")
    start = file.name.removesuffix(kind + suffix)
    if file.with_name(f"{start}{kind}_gt{suffix}").exists():
        return ((f"{start}{kind}_gt{suffix}", 0),)
    both = (f"{start}ED_gt{suffix}", diastole), (f"{start}ES_gt{suffix}", systole)
    return tuple((name, frame) for name, frame in both if file.with_name(name).exists())


def _read_info(path: Path) -> Row:
    """`Key: value` lines as one row; raises InputError naming a key that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: cannot be read ({type(error).__name__})") from None
    values = dict.fromkeys(OPTIONAL, "")
    for line in filter(str.strip, lines):
        key, _, value = (part.strip() for part in line.partition(":"))
        if key not in (*KEYS, *OPTIONAL, *UNUSED):
            raise InputError(f"{path.name} of a patient: unknown key '{key}'")
        values[key] = value
    for key in KEYS:
        if key not in values:
            raise InputError(f"{path.name} of a patient: key {key} is missing")
    return Row(path.name, 0, values)


def _splits(root: Path) -> dict[str, str]:
    """{patient: split} of the subgroup files, which lie beside the patients' folder."""
    splits: dict[str, str] = {}
    for folder in (root, root / "database_split", root.parent, root.parent / "database_split"):
        for path in sorted(folder.glob("subgroup_*.txt")):
            split = GROUPS.get(path.stem.removeprefix("subgroup_"))
            for number, line in enumerate(path.read_text(errors="replace").split(), 1):
                if not re.fullmatch(r"patient\d+", line):
                    raise InputError(f"{path.name}, line {number}: is no patient0000")
                if splits.setdefault(line, split) != split:
                    raise InputError(f"{path.name}, line {number}: a patient in two subgroups")
    return splits
