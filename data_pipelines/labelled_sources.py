"""Where labelled clips come from: shards, a public data set, folders of classes, or a table."""

import collections
import dataclasses
import logging
from pathlib import Path

from data_pipelines import datasets, readers, records, shards
from data_pipelines.labelled import LabelledClip, LabelledSet
from data_pipelines.labelled_checks import check_patients
from data_pipelines.labelled_files import FileReader, masked, patient_of, targets
from data_pipelines.labelled_table import Row, read_jsonl, read_table
from data_pipelines.labels import Label
from echofm_jax.errors import InputError

SHOWN = 20  # names of files that are left out for one reason; of those that are missing, all
log = logging.getLogger(__name__)


def labelled_set(
    source: Path,
    *,
    dataset: str = "",
    labels: Path | None = None,
    target: str = "",
    fps: float = 0.0,
    precropped: bool = False,
    structures: tuple[str, ...] = records.STRUCTURES,
) -> LabelledSet:
    """All labelled clips of a source; no pixels are read.

    Args:
      source: a data set of shards; with `dataset` a public one as its owners distribute it; with
        `labels`, or with labels.jsonl in it, a folder of files; else a folder of a folder a class,
        SOURCE/CLASS/FILE or SOURCE/CLASS/PATIENT/…/FILE.
      dataset: one of datasets.NAMES.
      labels: a table (`labelled_table`) or a labels.jsonl (`labels`).
      target: what the folders are classes of; empty: of views.
      fps: of files that do not tell theirs; 0 = unknown.
      precropped: files show nothing but the inside of the sector, as stills must; a named data set
        says it itself.
      structures: names of the values of a table's masks, background first.

    Whose clip it is: what the labels say; else the first folder below the source, or below the
    class; else a DICOM header's PatientID; else each file is taken for a patient of its own.

    Raises:
      InputError: nothing is there, or not what is asked for; labels that are wrong, or that name
        files that are not there (all are told); a patient in two splits.
    """
    source = Path(source).expanduser()
    if dataset and labels:
        raise InputError("labels: a named data set brings its own; leave one of both out")
    if dataset:
        found = _public(dataset, source)
    elif (shards.target_folder(source) / "echofm.json").is_file():
        if labels:
            raise InputError(f"{source} is a data set of shards, which holds its labels: name none")
        from data_pipelines.labelled_shards import read_shards

        found = read_shards(source)
    elif not source.is_dir():
        raise InputError(f"{source}: no such folder: name one of clips, or a data set")
    else:
        if labels is None and (source / "labels.jsonl").is_file():
            labels = source / "labels.jsonl"
        rows = _rows(labels, source) if labels else _folders(source, target or "view")
        clips = tuple(_clip(row, source, fps, precropped, structures) for row in rows)
        found = LabelledSet(
            clips=clips,
            structures=structures if any(clip.masked for clip in clips) else (),
            simulated=any(row.label.simulated for row in rows),
        )
    check_patients(found.clips)
    return found


def _clip(
    row: Row, source: Path, fps: float, precropped: bool, structures: tuple[str, ...]
) -> LabelledClip:
    """A file of a folder, with what is known of it."""
    path = source / row.name
    still = path.suffix.lower() == ".png"
    label = dataclasses.replace(row.label, still=still) if still else row.label
    return LabelledClip(
        name=row.name,
        patient=label.patient or patient_of(path, row.folders, row.name),
        study=row.study,
        split=label.split,
        targets=row.targets,
        read=FileReader(
            path=path, label=label, fps=fps, precropped=precropped, structures=structures
        ),
        masked=masked(label),
    )


def _rows(labels: Path, source: Path) -> list[Row]:
    """The rows of a table, or the lines of a labels.jsonl, all of whose files are there."""
    rows = read_jsonl(labels) if labels.suffix == ".jsonl" else read_table(labels, source)
    if not rows:
        raise InputError(f"labels {labels.name}: no clip in it: give a row a clip")
    _refuse_missing(
        f"labels {labels.name}", source,
        (name for row in rows for name in (row.name, *(m for m, _ in row.label.mask_files))),
    )  # fmt: skip
    return rows


def _refuse_missing(what: str, source: Path, names) -> None:
    """Raise InputError naming all files that are not there."""
    missing = [name for name in dict.fromkeys(names) if not (source / name).is_file()]
    if missing:
        raise InputError(
            f"{what}: {len(missing)} of its files are not below {source}: {', '.join(missing)}: "
            "bring them, or take them out of it"
        )


def _folders(source: Path, target: str) -> list[Row]:
    """Files of a folder a class; those that lie in none are left out."""
    _, files = readers.find_files(str(source))
    beside = {companion for file in files for companion in readers.companions(file)}
    rows, outside = [], []
    for file in files:
        parts = file.relative_to(source).parts
        name = "/".join(parts)
        if len(parts) == 1:
            outside.append(name)
        elif file not in beside:
            rows.append(Row(name, Label(), targets={target: parts[0]}, folders=parts[1:-1]))
    if not rows:
        raise InputError(
            f"{source}: no folder of a class with files in it, SOURCE/CLASS/FILE, no data set of "
            "shards and no labels.jsonl: name another, or a table of labels"
        )
    _tell_left_out({"lie in no class's folder": outside})
    return rows


def _public(dataset: str, folder: Path) -> LabelledSet:
    """A data set of `datasets`; files that its owners do not label, or wrongly, are left out."""
    source = datasets.open_dataset(dataset, folder)
    left_out = collections.defaultdict(list)
    named = {}
    for file in source.files:
        name = file.relative_to(source.root).as_posix()
        label = source.labels[name]
        if label.problem:
            left_out[label.problem].append(name)
        else:
            named[name] = label
    _refuse_missing(dataset, source.root, named)
    _tell_left_out(left_out)
    clips = tuple(
        LabelledClip(
            name=name,
            patient=label.patient or name,
            study=_study(dataset, name, label),
            split=label.split,
            targets=targets(label),
            read=FileReader(path=source.root / name, label=label, precropped=source.precropped),
            masked=masked(label),
        )
        for name, label in named.items()
    )
    structures = records.STRUCTURES if any(clip.masked for clip in clips) else ()
    return LabelledSet(clips=clips, structures=structures)


def _study(dataset: str, name: str, label: Label) -> str:
    """Which examination a clip is of, where the owners tell."""
    if dataset == "tmed2":  # PATIENTsSTUDY_IMAGE.png
        return Path(name).stem.rpartition("_")[0]
    return label.patient if dataset == "camus" else ""  # two views of one examination


def _tell_left_out(reasons: dict[str, list[str]]) -> None:
    for reason, names in reasons.items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            log.warning(
                "%d files are left out: %s: %s%s",
                len(names), reason, ", ".join(names[:SHOWN]), more,
            )  # fmt: skip
