"""What all named data sets have in common."""

import argparse

import miniatures as mini
import pytest

from data_pipelines import datasets, source

EXPECTED = {
    "echonet_dynamic": ("EchoNet-Dynamic", "VolumeTracings.csv"),
    "echonet_lvh": ("EchoNet-LVH", "MeasurementsList.csv"),
    "echonet_pediatric": ("EchoNet-Pediatric", "FileList.csv"),
    "camus": ("CAMUS", "Info_?CH.cfg"),
    "tmed2": ("TMED-2", "DEV479/TMED2_fold0_labeledpart.csv"),
    "mimic_iv_echo": ("MIMIC-IV-ECHO", "echo-record-list.csv"),
}


@pytest.mark.parametrize("name", datasets.NAMES)
def test_a_wrong_folder_is_refused_with_what_was_expected_and_what_is_there(name, tmp_path, capsys):
    (tmp_path / "studies" / "DOE_JANE").mkdir(parents=True)
    for file in ("DOE.dcm", "b.DCM", "notes"):
        (tmp_path / "studies" / file).write_bytes(b"x")
    (tmp_path / "studies" / "loop").symlink_to(tmp_path / "studies")
    said = mini.refusal(capsys, name, tmp_path / "studies")
    assert all(part in said for part in EXPECTED[name]) and "DOE" not in said
    assert said.endswith("there are 2 .dcm, 1 files, 2 folders")


def test_a_folder_of_another_data_set_is_recognised(tmp_path, capsys):
    (tmp_path / "set" / "Batch1").mkdir(parents=True)
    (tmp_path / "set" / "MeasurementsList.csv").write_text("")
    said = mini.refusal(capsys, "tmed2", tmp_path / "set")
    assert said.endswith("there is EchoNet-LVH: use --dataset echonet_lvh")


def test_a_file_and_nothing_are_no_folders(tmp_path, capsys):
    (tmp_path / "FileList.csv").write_text("")
    for path in (tmp_path / "FileList.csv", tmp_path / "nowhere"):
        said = mini.refusal(capsys, "camus", path)
        assert "no such folder: name the one that holds CAMUS" in said


def test_files_are_sorted_and_links_not_followed_in_circles(tmp_path):
    rows = []
    for number in (3, 1, 2):
        path = f"files/p10/p1{number}/s{number}/{number}_0001.dcm"
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"")
        rows.append([f"1{number}", number, "", path])
    (tmp_path / "files" / "loop").symlink_to(tmp_path / "files")
    header = ["subject_id", "study_id", "acquisition_datetime", "dicom_filepath"]
    mini.write_csv(tmp_path / "echo-record-list.csv", header, rows)
    found = source.find(argparse.Namespace(dataset="mimic_iv_echo", source=str(tmp_path)))
    names = [file.relative_to(found.root).as_posix() for file in found.files]
    assert names == sorted(names) == sorted(found.labels) and len(names) == 3
