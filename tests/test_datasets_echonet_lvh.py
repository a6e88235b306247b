"""EchoNet-LVH in miniature: batches, several rows a video, a column without a name."""

import miniatures as mini
import numpy as np
import pytest
import walls

from data_pipelines.clip import Rejected
from data_pipelines.datasets import open_dataset
from data_pipelines.labelled_sources import labelled_set

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


def test_points_and_spacing_of_several_beats_lie_where_the_walls_are(tmp_path):
    root = walls.write(tmp_path / "EchoNet-LVH", 2)
    found = labelled_set(root, dataset="echonet_lvh")
    for number, clip in enumerate(found.clips):
        label = clip.read.label
        assert label.spacing == pytest.approx(walls.MM, rel=1e-3)
        assert [frame for frame, _ in label.points] == [2, 6, 10]
        for frame, places in label.points:
            np.testing.assert_allclose(places, walls.places(number, frame), atol=1e-3)
        pixels = clip.read(128, False)
        assert pixels.end_diastole == (2, 10) and sorted(pixels.points) == [2, 6, 10]
        for frame, points in pixels.points.items():
            x = round(points[0, 0])
            column = pixels.frames[frame][:, x] > 110  # bright: a wall
            edges = np.flatnonzero(np.diff(column.astype(int))) + 0.5
            assert len(edges) == 4
            np.testing.assert_allclose(edges, points[:, 1], atol=1.6)
            mm = np.diff(points[:, 1]) * pixels.spacing[0]
            true = np.diff(walls.places(number, frame)[:, 1]) * walls.MM
            np.testing.assert_allclose(mm, true, rtol=0.02)


def test_what_was_not_measured_is_unknown_and_an_end_shared_by_two_is_their_mean(tmp_path):
    root = tmp_path / "set"
    mini.write_avi(root / "Batch1" / "0X1.avi", mini.video([20.0] * COUNT, 1, HEIGHT, WIDTH))

    def label(*rows):
        mini.write_csv(root / "MeasurementsList.csv", HEADER, rows)
        return open_dataset("echonet_lvh", root).labels["Batch1/0X1.avi"]

    def row(calc, cm, ends, frame=3):
        return [0, "0X1", calc, cm, frame, *ends, COUNT, 50, WIDTH, HEIGHT, "train"]

    one = label(row("IVSd", 1.0, (60, 60, 20, 30)), row("LVIDd", 4.0, (62, 62, 72, 32)))
    ((frame, places),) = one.points
    assert frame == 3 and one.spacing == pytest.approx(1.0)
    np.testing.assert_allclose(places, [(60, 20), (61, 31), (62, 72), (np.nan, np.nan)])
    lost = label(row("IVSd", 1.0, ("", "", "", "")), row("LVIDd", 4.0, (50, 50, 20, 20)))
    assert lost.points == () and lost.spacing == 0
    assert lost.end_diastole == (3,) and dict(lost.measurements)["ivs_d"] == 1
    spare = label(row("LVIDd", "", (60, 60, 20, 60)))
    assert len(spare.points) == 1 and spare.spacing == 0


def test_a_point_outside_the_image_is_a_reason_of_its_file(tmp_path, capsys):
    root = tmp_path / "EchoNet-LVH"
    frames = mini.video([20.0] * COUNT, 1, HEIGHT, WIDTH)
    for name in ("0X1", "0X2"):
        mini.write_avi(root / "Batch1" / f"{name}.avi", frames)
    ends = {"0X1": (60, 60, 20, HEIGHT + 2), "0X2": (60, 60, 20, HEIGHT - 0.5)}
    mini.write_csv(root / "MeasurementsList.csv", HEADER, [
        [i, name, "LVIDd", 4, 3, *four, COUNT, 50, WIDTH, HEIGHT, "train"]
        for i, (name, four) in enumerate(ends.items())
    ])  # fmt: skip
    outside, inside = labelled_set(root, dataset="echonet_lvh").clips
    with pytest.raises(Rejected, match="label_mismatch: a point of frame 3 outside the image"):
        outside.read(112, False)
    pixels = inside.read(112, False)
    assert np.isfinite(pixels.points[3][1:3]).all()
    assert mini.ingest("echonet_lvh", root, tmp_path / "data") == 0
    reasons = {name: line["detail"] for name, line in mini.report(tmp_path / "data").items()}
    assert reasons["Batch1/0X1.avi"] == "a point of frame 3 outside the image"
    record = mini.example(tmp_path / "data", "Batch1/0X2.avi")
    assert record["spacing"][0] == pytest.approx(pixels.spacing[0])
