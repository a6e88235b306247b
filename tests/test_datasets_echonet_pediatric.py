"""EchoNet-Pediatric in miniature: two views, folds, point tracings, keys in file names."""

import miniatures as mini
import numpy as np
import pytest

HEADER = ["FileName", "EF", "Sex", "Age", "Weight", "Height", "Split"]
TRACED = ["FileName", "X", "Y", "Frame"]
RADII = [20.0] * 4 + [12.0] * 8
FOLDS = {"MRN7734512-ACC1-000039": 0, "MRNK-ACC2-000001": 1, "MRNL-ACC3-000002": 5,
         "MRNM-ACC4-000003": 9, "MRNN-ACC5-000004": 7}  # fmt: skip


def row(stem, fold, ef=61.5):
    return [f"{stem}.avi", ef, "F", 7, 22.5, 120, fold]


def points(stem, frame, radius):
    return [[f"{stem}.avi", x, y, frame] for x, y in mini.ellipse(radius).round(3).tolist()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pediatric")
    root = folder / "pediatric_echo_avi" / "pediatric_echo_avi"
    first, _, last, only_diastole, _ = FOLDS
    for seed, stem in enumerate(FOLDS):
        mini.write_avi(root / "A4C" / "Videos" / f"{stem}.avi", mini.video(RADII, seed), fps=30)
    tracings = points(first, 2, 20) + points(first, 7, 12) + points(last, 0, 20)
    tracings += points(last, 11, 12) + points(only_diastole, 3, 20)
    tracings += [[f"{only_diastole}.avi", "", "", "No Systolic"]]
    mini.write_csv(root / "A4C" / "FileList.csv", HEADER, [row(*item) for item in FOLDS.items()])
    mini.write_csv(root / "A4C" / "VolumeTracings.csv", TRACED, tracings)
    # The same child in the other view, in another fold; there frames are counted from 1.
    other = "MRNL-ACC3-000777"
    mini.write_avi(root / "PSAX" / "Videos" / f"{other}.avi", mini.video(RADII, 99), fps=30)
    mini.write_csv(root / "PSAX" / "FileList.csv", HEADER, [row(other, 1, ef="")])
    mini.write_csv(root / "PSAX" / "VolumeTracings.csv", TRACED, points(other, 12, 12))
    data_dir = folder / "data"
    assert mini.ingest("echonet_pediatric", folder, data_dir) == 0
    return data_dir


def test_no_key_of_a_file_name_gets_out(made, capfd):
    said = mini.everything_said(made, capfd)
    assert b"MRN" not in said and b"ACC1" not in said
    assert any("MRN7734512" in name for name in mini.report(made))


def test_labels_and_masks_of_points(made):
    record = mini.example(made, "A4C/Videos/MRN7734512-ACC1-000039.avi")
    assert record["view"] == b"A4C" and record["ejection_fraction"] == np.float32(61.5)
    assert mini.is_patient(made, record, "MRN7734512")
    assert record["end_diastole"].tolist() == [2] and record["end_systole"].tolist() == [7]
    assert mini.overlap(record, 0) > 0.95 and mini.overlap(record, 1) > 0.93
    assert record["fps"] == pytest.approx(30) and record["fps_source"] == b"container"


def test_a_list_that_has_no_frame_0_counts_from_1(made):
    record = mini.example(made, "PSAX/Videos/MRNL-ACC3-000777.avi")
    assert record["view"] == b"PSAX" and np.isnan(record["ejection_fraction"])
    assert record["mask_frames"].tolist() == [11] and mini.overlap(record, 0) > 0.93


def test_no_systolic_says_that_the_traced_frame_is_diastole(made):
    record = mini.example(made, "A4C/Videos/MRNM-ACC4-000003.avi")
    assert record["end_diastole"].tolist() == [3] and len(record["end_systole"]) == 0


def test_folds_and_patients_in_two_of_them(made):
    found = {name[:12].split("/")[0] + name[-11:-4]: line["split"]
             for name, line in mini.report(made).items()}  # fmt: skip
    assert found == {"A4C-000039": "test", "A4C-000001": "val", "A4C-000003": "train",
                     "A4C-000004": "train", "A4C-000002": "val", "PSAX-000777": "val"}  # fmt: skip
    one = mini.example(made, "A4C/Videos/MRNL-ACC3-000002.avi")
    assert one["patient_id"] == mini.example(made, "PSAX/Videos/MRNL-ACC3-000777.avi")["patient_id"]


def test_wrong_tables_are_named(tmp_path, capsys):
    view = tmp_path / "set" / "A4C"

    def said(rows, header=HEADER, tracings=()):
        mini.write_csv(view / "FileList.csv", header, rows)
        mini.write_csv(view / "VolumeTracings.csv", TRACED, tracings)
        return mini.refusal(capsys, "echonet_pediatric", tmp_path / "set")

    (stem, *_) = FOLDS
    assert "FileList.csv, line 2: Split is none of 0, 1" in said([row(stem, 10)])
    assert "column Split is missing" in said([row(stem, 1)[:-1]], HEADER[:-1])
    assert "unknown column 'MRN'" in said([[*row(stem, 1), 9]], [*HEADER, "MRN"])
    wrong = said([row(stem, 1)], tracings=[[stem, 1, "x", 4]])
    assert "VolumeTracings.csv, line 2: Y is no number" in wrong and "MRN77" not in wrong
    (tmp_path / "other" / "X").mkdir(parents=True)
    for name in ("FileList.csv", "VolumeTracings.csv"):
        (tmp_path / "other" / "X" / name).write_text("")
    said = mini.refusal(capsys, "echonet_pediatric", tmp_path / "other")
    assert "no EchoNet-Pediatric: expected A4C or PSAX" in said
