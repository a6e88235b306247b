"""EchoNet-LVH in miniature: batches, several rows a video, a column without a name."""

import miniatures as mini
import numpy as np
import pytest

HEADER = ["", "HashedFileName", "Calc", "CalcValue", "Frame", "X1", "X2", "Y1", "Y2", "Frames",
          "FPS", "Width", "Height", "split"]  # fmt: skip
HEIGHT, WIDTH, COUNT = 96, 128, 12


def row(number, name, calc, value, frame, split="train", fps=54.25):
    return [number, name, calc, value, frame, 40, 41, 50, 60, COUNT, fps, WIDTH, HEIGHT, split]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lvh")
    root = folder / "EchoNet-LVH"
    rows = [row(i, "0X1A", *of) for i, of in enumerate([
        ("IVSd", 1.1, 3), ("LVIDd", 4.5, 3), ("LVIDd", 4.7, 9), ("LVPWd", 0.9, 3),
        ("IVSs", 1.3, 6), ("LVIDs", 3.1, 6), ("LVPWs", 1.2, 7),
    ])]  # fmt: skip
    rows += [row(7, "0X2B", "LVIDd", 5.25, 2, "val"), row(8, "0X3C", "LVPWd", 1.5, 0, "test")]
    rows += [row(9, "0XLATE", "LVIDd", 5.0, COUNT), row(10, "0XGONE", "LVIDd", 5.0, 2)]
    mini.write_csv(root / "MeasurementsList.csv", HEADER, rows)
    places = {"Batch1": "0X1A", "Batch2": "0X2B", "Batch3": "0X3C", "Batch4": "0XLATE"}
    for seed, (batch, name) in enumerate({**places, "Batch5": "0XNEW"}.items()):
        frames = mini.video([20.0] * COUNT, seed, HEIGHT, WIDTH)
        mini.write_avi(root / batch / f"{name}.avi", frames, fps=30)
    twice = mini.video([14.0] * COUNT, 50, HEIGHT, WIDTH)
    mini.write_avi(root / "Batch4" / "0X1A.avi", twice)
    data_dir = folder / "data"
    assert mini.ingest("echonet_lvh", root, data_dir) == 0
    return data_dir


def test_every_label_of_a_video(made):
    record = mini.example(made, "Batch1/0X1A.avi")
    assert record["split"] == "train" and record["view"] == b"PLAX"
    assert mini.is_patient(made, record, "0X1A")
    cm = {"ivs_d": 1.1, "lvid_d": 4.6, "lvpw_d": 0.9, "ivs_s": 1.3, "lvid_s": 3.1, "lvpw_s": 1.2}
    for name, value in cm.items():
        assert mini.measurement(record, name) == pytest.approx(value, rel=1e-6)
    assert np.isfinite(record["measurements"]).sum() == 6
    assert record["end_diastole"].tolist() == [3, 9] and record["end_systole"].tolist() == [6, 7]
    assert record["fps"] == pytest.approx(54.25) and record["fps_source"] == b"labels"
    assert len(record["masks"]) == 0 and np.isnan(record["ejection_fraction"])


def test_official_splits_and_partial_measurements(made):
    for file, split, name, value in (
        ("Batch2/0X2B.avi", "val", "lvid_d", 5.25),
        ("Batch3/0X3C.avi", "test", "lvpw_d", 1.5),
    ):
        record = mini.example(made, file)
        assert record["split"] == split and mini.measurement(record, name) == value
        assert np.isfinite(record["measurements"]).sum() == 1


def test_what_does_not_fit_is_reported_file_by_file(made):
    lines = mini.report(made).items()
    assert {n: (v["reason"], v["detail"]) for n, v in lines if v["status"] == "rejected"} == {
        "Batch4/0X1A.avi": ("label_mismatch", "a second file of this name"),
        "Batch4/0XLATE.avi": ("label_mismatch", "12 frames, and a label outside them"),
        "Batch5/0XNEW.avi": ("label_mismatch", "no row in MeasurementsList.csv"),
        "0XGONE.avi": ("missing", ""),
    }


def test_wrong_tables_are_named(tmp_path, capsys):
    root = tmp_path / "set"
    (root / "Batch1").mkdir(parents=True)

    def said(*rows, header=HEADER):
        mini.write_csv(root / "MeasurementsList.csv", header, rows)
        return mini.refusal(capsys, "echonet_lvh", root)

    good = row(0, "0X1", "IVSd", 1, 2)
    assert "MeasurementsList.csv: column split is missing" in said(good, header=HEADER[:-1])
    assert "unknown column 'LVH'" in said([*good, 1], header=[*HEADER, "LVH"])
    assert "line 2: Calc is none of IVSd, LVIDd" in said(row(0, "0X1", "EF", 55, 2))
    wrong = said(good, row(1, "0X1", "LVIDd", 5, 2, "val"))
    assert "line 3: split differs" in wrong
    (root / "Batch1").rmdir()
    assert "expected MeasurementsList.csv, Batch*" in said(good)
