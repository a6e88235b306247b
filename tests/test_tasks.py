import argparse
import os
from pathlib import Path

import pytest

from data_pipelines.labels import Label
from data_pipelines.source import Source
from data_pipelines.tasks import make_tasks, place, told


def tasks(root: Path, salt: bytes = b"s" * 32, labels=None, files=None, **changes):
    args = argparse.Namespace(**{
        "data_dir": root / "data", "report": None, "size": 32, "encoding": "zstd", "fps": 0.0,
        "colour": False, "patient_from": "auto", **changes,
    })  # fmt: skip
    files = files or sorted(p for p in root.rglob("*") if p.is_file())
    source = Source(root, files, labels or {}, precropped=False)
    return make_tasks(args, source, salt, root / "staged")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "ann" / "1.dcm"
    path.parent.mkdir()
    path.write_bytes(b"x")
    return path


def test_a_file_is_the_same_until_it_or_its_label_changes(tmp_path, file):
    (first,) = tasks(tmp_path)
    assert tasks(tmp_path) == [first]
    (other,) = tasks(tmp_path, salt=b"t" * 32)
    assert other.name != first.name and other.key != first.key
    (labelled,) = tasks(tmp_path, labels={"ann/1.dcm": Label(view="A4C")})
    assert labelled.name == first.name and labelled.key != first.key
    os.utime(file, ns=(1, 1))
    (touched,) = tasks(tmp_path)
    assert touched.name == first.name and touched.key not in (first.key, labelled.key)
    file.write_bytes(b"xy")
    os.utime(file, ns=(1, 1))
    assert tasks(tmp_path)[0].key != touched.key


def test_a_file_changes_with_those_that_are_read_with_it(tmp_path):
    """A clip of two files, and a mask of two."""
    for name in ("clip", "mask"):
        (tmp_path / f"{name}.mhd").write_text(f"ElementDataFile = {name}.raw\n")
        (tmp_path / f"{name}.raw").write_bytes(b"x")
    labels = {"clip.mhd": Label(mask_files=(("mask.mhd", 0),))}
    clip = [tmp_path / "clip.mhd"]
    keys = [tasks(tmp_path, files=clip, labels=labels)[0].key]
    for name in ("clip.raw", "mask.mhd", "mask.raw"):
        os.utime(tmp_path / name, ns=(1, 1))
        keys.append(tasks(tmp_path, files=clip, labels=labels)[0].key)
    (tmp_path / "mask.raw").unlink()
    keys.append(tasks(tmp_path, files=clip, labels=labels)[0].key)
    assert len(set(keys)) == 5 and tasks(tmp_path, files=clip, labels=labels)[0].key == keys[-1]


def test_keys_name_nobody(tmp_path, file):
    (task,) = tasks(tmp_path)
    for key in (task.name, task.key):
        assert len(key) == 16 and int(key, 16) >= 0
    assert place(task, tmp_path) == "ann/1.dcm" and task.path.is_absolute()


@pytest.mark.parametrize(
    ("choice", "patient"), [("auto", "ann"), ("folder", "ann"), ("file", "ann/1.dcm")]
)
def test_whose_clip_it_is(tmp_path, file, choice, patient):
    (task,) = tasks(tmp_path, patient_from=choice)
    assert task.patient == patient and task.treatment.trust_header == (choice == "auto")


def test_only_what_a_label_says_counts():
    assert told(Label()) == "[]"
    assert told(Label(patient="p", fps=30.0)) == "[('patient', 'p'), ('fps', 30.0)]"


def test_what_earlier_runs_wrote_is_no_source(tmp_path, file):
    for name in ("data/echo_clips/x", "data-ingest/settings.json", "data-report.csv",
                 "data-review.csv", "data-other.csv"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [place(t, tmp_path) for t in tasks(tmp_path)] == ["ann/1.dcm", "data-other.csv"]
