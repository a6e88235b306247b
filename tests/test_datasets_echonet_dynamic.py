"""EchoNet-Dynamic in miniature: layout, names and quirks as its owners distribute it."""

import miniatures as mini
import numpy as np
import pytest

HEADER = ["FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames",
          "Split"]  # fmt: skip
TRACED = ["FileName", "X1", "Y1", "X2", "Y2", "Frame"]
RADII = [20.0] * 4 + [12.0] * 8
NAME = "0X1A05DFFFCAFB253B"


def row(name, split="TRAIN", fps=50, ef=64.5):
    return [name, ef, 30.25, 85.125, 112, 112, fps, len(RADII), split]


def write(root, rows, tracings, header=HEADER, traced=TRACED):
    (root / "Videos").mkdir(parents=True, exist_ok=True)
    mini.write_csv(root / "FileList.csv", header, rows)
    mini.write_csv(root / "VolumeTracings.csv", traced, tracings)


def both(name, first=2, second=7):
    """ES before ED in the table: its owners sort by area."""
    return mini.chords(f"{name}.avi", second, mini.ellipse(12)) + mini.chords(
        f"{name}.avi", first, mini.ellipse(20)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamic")
    root = folder / "EchoNet-Dynamic"
    names = {NAME: "TRAIN", "0X2": "VAL", "0X3": "TEST", "0XUNTRACED": "TRAIN", "0XONE": "TRAIN",
             "0XOUTSIDE": "TRAIN", "0XLATE": "VAL", "0XSPLIT": "test"}  # fmt: skip
    for seed, name in enumerate([*names, "0XUNLISTED"]):
        mini.write_avi(root / "Videos" / f"{name}.avi", mini.video(RADII, seed), fps=30)
    (root / "Videos" / "._0X2.avi").write_bytes(b"a file system's own")
    tracings = both(NAME) + both("0X2") + both("0X3", 0, 11) + both("0XLATE", 2, 12)
    tracings += both("0XONE")[:21] + both("0XGHOST")
    tracings += mini.chords("0XOUTSIDE.avi", 2, mini.ellipse(20) + np.array([60, 0]))
    tracings += mini.chords("0XOUTSIDE.avi", 7, mini.ellipse(12))
    rows = [row(name, split) for name, split in names.items()]
    write(root, [*rows, row("0XMISSING", "VAL")], tracings)
    data_dir = folder / "data"
    assert mini.ingest("echonet_dynamic", root, data_dir) == 0
    return data_dir


def test_every_label_of_a_video(made):
    record = mini.example(made, f"Videos/{NAME}.avi")
    assert record["split"] == "train" and record["view"] == b"A4C"
    assert mini.is_patient(made, record, NAME)
    assert record["ejection_fraction"] == np.float32(64.5)
    assert mini.measurement(record, "end_diastolic_volume") == 85.125
    assert mini.measurement(record, "end_systolic_volume") == 30.25
    assert np.isfinite(record["measurements"]).sum() == 2
    # The list's rate, not the container's 30.
    assert record["fps"] == pytest.approx(50) and record["fps_source"] == b"labels"
    assert len(record["frames"]) == len(record["times"]) == 12
    # The larger area is end-diastole, wherever it stands in the table.
    assert record["end_diastole"].tolist() == [2] and record["end_systole"].tolist() == [7]
    assert record["aortic_stenosis"] == -1 and record["mode"] == b"b_mode"


def test_tracings_become_masks_that_lie_on_the_ventricle(made):
    record = mini.example(made, f"Videos/{NAME}.avi")
    assert record["mask_frames"].tolist() == [2, 7]
    assert mini.overlap(record, 0) > 0.95 and mini.overlap(record, 1) > 0.93
    assert mini.offset(record, 0) < 0.3 and mini.offset(record, 1) < 0.3
    areas = [np.count_nonzero(mini.records.decode_mask(m, mini.SIDE)) for m in record["masks"]]
    assert areas[0] > 2 * areas[1]
    record = mini.example(made, "Videos/0X3.avi")
    assert record["mask_frames"].tolist() == [0, 11] and mini.overlap(record, 1) > 0.93


def test_official_splits(made):
    lines = mini.report(made)
    found = {name[7:-4]: line["split"] for name, line in lines.items() if line["split"]}
    assert found == {NAME: "train", "0X2": "val", "0X3": "test", "0XUNTRACED": "train",
                     "0XONE": "train", "0XSPLIT": "test"}  # fmt: skip


def test_videos_with_fewer_than_two_traced_frames_keep_what_they_have(made):
    record = mini.example(made, "Videos/0XUNTRACED.avi")
    assert len(record["masks"]) == 0 and record["ejection_fraction"] == np.float32(64.5)
    assert len(record["end_diastole"]) == len(record["end_systole"]) == 0
    record = mini.example(made, "Videos/0XONE.avi")  # which of the two, nobody says
    assert record["mask_frames"].tolist() == [7] and mini.overlap(record, 0) > 0.93
    assert len(record["end_diastole"]) == len(record["end_systole"]) == 0


def test_what_does_not_fit_is_reported_file_by_file(made):
    refused = {
        name[7:-4]: (line["reason"], line["detail"])
        for name, line in mini.report(made).items()
        if line["status"] == "rejected"
    }
    assert refused == {
        "0XMISSING": ("missing", ""),
        "0XGHOST": ("label_mismatch", "traced, but no row in FileList.csv"),
        "0XUNLISTED": ("label_mismatch", "no row in FileList.csv"),
        "0XOUTSIDE": ("label_mismatch", "a tracing outside the image"),
        "0XLATE": ("label_mismatch", "12 frames, and a label outside them"),
    }


def test_wrong_tables_are_named(tmp_path, capsys):
    root = tmp_path / "set"

    def said(rows=(), tracings=(), **headers):
        write(root, rows or [row(NAME)], tracings or both(NAME), **headers)
        return mini.refusal(capsys, "echonet_dynamic", root)

    assert "FileList.csv: column EF is missing" in said(header=["FileName", *HEADER[2:], "Ef"])
    assert "FileList.csv: unknown column 'Age'" in said([[*row(NAME), 7]], header=[*HEADER, "Age"])
    assert "VolumeTracings.csv: column Y2 is missing" in said(traced=[*TRACED[:4], "Y", "Frame"])
    assert "column FileName is missing" in said(header=row("0XSECRET")) and "SECRET" not in said(
        header=row("0XSECRET")
    )
    assert "FileList.csv, line 2: EF is no number" in said([row(NAME, ef="good")])
    assert "FileList.csv, line 2: EF is not between 0 and 100" in said([row(NAME, ef=640)])
    assert "line 2: Split is none of train" in said([row(NAME, split="TRAINING")])
    assert "line 3: FileName was there before" in said([row(NAME), row(f"{NAME}.avi")])
    assert "line 3: 8 values, the header has 9 columns" in said([row(NAME), row("0X2")[:-1]])
    assert "line 2: Frame is no whole number" in said(tracings=[[NAME, 1, 1, 2, 2, 4.5]])


def test_wrong_folders_are_described_without_names(tmp_path, capsys):
    (tmp_path / "x" / "DOE_JANE").mkdir(parents=True)
    (tmp_path / "x" / "DOE.avi").write_bytes(b"")
    said = mini.refusal(capsys, "echonet_dynamic", tmp_path / "x")
    assert "not EchoNet-Dynamic: expected FileList.csv, VolumeTracings.csv, Videos; " in said
    assert "there are 1 .avi, 1 folders" in said and "DOE" not in said
    assert "no such folder" in mini.refusal(capsys, "echonet_dynamic", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "there is nothing" in mini.refusal(capsys, "echonet_dynamic", tmp_path / "empty")
    write(tmp_path / "y", [row(NAME)], both(NAME))
    said = mini.refusal(capsys, "camus", tmp_path / "y")
    assert "not CAMUS" in said and "there is EchoNet-Dynamic: use --dataset echonet_dynamic" in said
