"""Ingestion as its users run it: real files in, shards and a report out, in the right places."""

import csv
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import beating_disc
from test_sector import fan_screen

from data_pipelines import phantom_files, records, shards
from data_pipelines.phantom_image import simulate
from echofm_jax import cli

SIZE = 64


@pytest.fixture(scope="module")
def simulated():
    return simulate("A4C", 3, size=(150, 200))


def save_npy(path: Path, seed: int = 1, frames: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, fan_screen(seed).frames if frames is None else frames)
    return path


def ingest(source, data_dir, *more) -> int:
    salt = Path(data_dir).parent / "salt"
    return cli.main(
        ["ingest", f"--source={source}", f"--data_dir={data_dir}", f"--salt_file={salt}",
         f"--size={SIZE}", "--workers=1", "--encoding=zstd", *more]
    )  # fmt: skip


def report(data_dir) -> dict[str, dict]:
    with Path(f"{data_dir}-report.csv").open() as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def everything(data_dir) -> list[dict]:
    splits = shards.dataset_info(data_dir).records
    return [example for split in splits for example in shards.open_split(data_dir, split)]


def decoded(example: dict) -> np.ndarray:
    out = np.empty((len(example["frames"]), SIZE, SIZE), np.uint8)
    for data, image in zip(example["frames"], out, strict=True):
        records.decode_frame(data, "zstd", image)
    return out


def test_the_report_lists_every_file_with_its_reason(simulated, tmp_path, capsys):
    source = tmp_path / "in"
    save_npy(source / "a" / "good.npy")
    save_npy(source / "b" / "same_pixels.npy")
    save_npy(source / "c" / "one_frame.npy", frames=fan_screen(1).frames[:1])
    save_npy(source / "d" / "still.npy", frames=np.repeat(fan_screen(1).frames[:1], 9, 0))
    (source / "notes.dcm").write_text("Dear colleague, the DICOM will follow.")
    (source / "empty.mp4").write_bytes(b"")
    person = phantom_files.identity(0, 0)
    video = source / "whole.mp4"
    phantom_files.write_video(video, simulated, person, "mpeg4")
    cut = video.read_bytes()
    (source / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    (source / "table.csv").write_text("a,b\n1,2\n")
    data_dir = tmp_path / "data"
    assert ingest(source, data_dir, "--patient_from=file", "--review", "--json") == 0
    rows = report(data_dir)
    reasons = {name: row["reason"] for name, row in rows.items()}
    assert reasons == {
        "a/good.npy": "", "b/same_pixels.npy": "duplicate", "c/one_frame.npy": "single_frame",
        "cut.mp4": reasons["cut.mp4"], "d/still.npy": "no_sector", "empty.mp4": "empty",
        "notes.dcm": reasons["notes.dcm"], "table.csv": "not_video", "whole.mp4": "",
    }  # fmt: skip
    assert reasons["cut.mp4"] in ("truncated", "unreadable")
    assert reasons["notes.dcm"] in ("unreadable", "not_video")
    assert rows["whole.mp4"]["fps_source"] == "container"
    with Path(f"{data_dir}-review.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["d/still.npy"]
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["accepted"] == 2 and sum(summary["rejected"].values()) == 7
    assert sum(summary["records"].values()) == len(everything(data_dir))


def test_the_same_clip_of_the_same_patient_is_kept_once(tmp_path):
    save_npy(tmp_path / "in" / "p" / "a.npy")
    save_npy(tmp_path / "in" / "p" / "b.npy")
    save_npy(tmp_path / "in" / "q" / "c.npy", seed=2)
    assert ingest(tmp_path / "in", tmp_path / "data") == 0
    assert [row["reason"] for row in report(tmp_path / "data").values()] == ["", "duplicate", ""]


def test_patients_are_not_shared_by_splits_and_val_is_never_empty(tmp_path):
    for number in range(9):
        frames = fan_screen(number % 3 + 1).frames[: 10 + number]
        save_npy(tmp_path / "in" / f"patient{number % 3}" / f"{number}.npy", frames=frames)
    assert ingest(tmp_path / "in", tmp_path / "data") == 0
    info = shards.dataset_info(tmp_path / "data")
    found = {
        split: {e["patient_id"] for e in shards.open_split(tmp_path / "data", split)}
        for split in info.records
    }
    assert info.records.keys() >= {"train", "val"} and sum(info.records.values()) == 9
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 3


def test_shards_are_the_same_bytes_whatever_the_workers(tmp_path):
    for number in range(4):
        save_npy(tmp_path / "in" / f"{number}.npy", seed=number + 1)
    assert ingest(tmp_path / "in", tmp_path / "one") == 0
    assert ingest(tmp_path / "in", tmp_path / "two", "--workers=2") == 0
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / d).rglob("*array_record*")}
        for d in ("one", "two")
    )
    assert one == two and one


def test_labels_reach_the_records_cut_to_their_segments(tmp_path):
    frames = np.concatenate([fan_screen(1).frames] * 10)[:150]
    save_npy(tmp_path / "in" / "long.npy", frames=frames)
    phase = [round(t / 30 % 1, 3) for t in range(150)]
    label = {"file": "long.npy", "patient": "p", "fps": 30.0, "view": "PLAX", "phase": phase,
             "rhythm": "bigeminy", "end_diastole": [0, 30, 60, 90, 120], "end_systole": [10, 100],
             "ejection_fraction": 55.5, "simulated": True}  # fmt: skip
    (tmp_path / "in" / "labels.jsonl").write_text(json.dumps(label) + "\n")
    assert ingest(tmp_path / "in", tmp_path / "data") == 0
    first, second = sorted(everything(tmp_path / "data"), key=lambda e: e["segment"])
    assert (len(first["frames"]), len(second["frames"])) == (75, 75)
    np.testing.assert_allclose(np.r_[first["phase"], second["phase"]], phase, atol=1e-6)
    assert second["end_diastole"].tolist() == [15, 45] and second["end_systole"].tolist() == [25]
    assert second["times"][0] == 0 and first["fps"] == pytest.approx(30)
    assert first["rhythm"] == second["rhythm"] == b"bigeminy"
    assert first["view"] == b"PLAX" and first["fps_source"] == b"labels"
    assert shards.dataset_info(tmp_path / "data").simulated


def test_a_label_of_another_length_refuses_its_file_only(tmp_path):
    save_npy(tmp_path / "in" / "a.npy")
    save_npy(tmp_path / "in" / "b.npy", seed=2)
    label = {"file": "a.npy", "phase": [0.0, 0.5]}
    (tmp_path / "in" / "labels.jsonl").write_text(json.dumps(label) + "\n")
    assert ingest(tmp_path / "in", tmp_path / "data") == 0
    rows = report(tmp_path / "data")
    assert rows["a.npy"]["reason"] == "label_mismatch" and rows["b.npy"]["status"] == "accepted"


def refused(capsys, *argv) -> str:
    assert ingest(*argv) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("echofm ingest: ")
    return error


def test_wrong_input_is_one_line(tmp_path, capsys):
    (tmp_path / "none").mkdir()
    data_dir = tmp_path / "data"
    assert "none" in refused(capsys, tmp_path / "none", data_dir)
    assert "nowhere" in refused(capsys, tmp_path / "nowhere", data_dir)
    save_npy(tmp_path / "in" / "a.npy")
    assert "--split" in refused(capsys, tmp_path / "in", data_dir, "--split=50,10")
    for size in ("15", "-1", "65536", "70000"):
        said = refused(capsys, tmp_path / "in", data_dir, f"--size={size}")
        assert f"--size {size}: frames must be from 16 to 65535 pixels wide" in said
    for fps in ("-30", "0.5", "1001", "nan", "inf"):
        said = refused(capsys, tmp_path / "in", data_dir, f"--fps={fps}")
        assert f"--fps {fps}: give frames a second from 1 to 1000" in said
    (tmp_path / "file").write_text("")
    for option, said in {
        "--json": f"ingest: report {tmp_path / 'file' / 'data-report.csv'}: Not a directory",
        f"--report={tmp_path / 'r.csv'}": f"cannot write {tmp_path / 'file' / 'data'}: ",
    }.items():
        assert said in refused(
            capsys, tmp_path / "in", tmp_path / "file" / "data",
            f"--salt_file={tmp_path / 'salt'}", option,
        )  # fmt: skip
    (tmp_path / "bad.jsonl").write_text('{"file": "a.npy", "name": "X"}\n')
    said = refused(capsys, tmp_path / "in", data_dir, f"--labels={tmp_path / 'bad.jsonl'}")
    assert "line 1" in said and "unknown field name" in said
    assert not data_dir.exists() and not list(tmp_path.glob("data-*"))


def test_a_run_that_fails_at_once_binds_no_other(tmp_path, monkeypatch, capsys):
    save_npy(tmp_path / "in" / "a.npy")
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # not installed
    for before in (False, True):  # there was a data set already
        said = refused(
            capsys, tmp_path / "in", tmp_path / "data", "--runner=beam", "--size=48", "--overwrite"
        )
        assert "pip install" in said and not (tmp_path / "data-ingest").exists()
        if before:  # it is not replaced unless somebody says so again
            assert "no journal to add" in refused(capsys, tmp_path / "in", tmp_path / "data")
        assert ingest(tmp_path / "in", tmp_path / "data", *["--overwrite"] * before) == 0
        assert shards.dataset_info(tmp_path / "data").size == SIZE


@pytest.mark.parametrize("option", ["--patient_from=file", "--patient_from=folder", "--precropped"])
def test_what_a_named_data_set_says_itself_is_no_option(tmp_path, capsys, option):
    said = refused(capsys, tmp_path, tmp_path / "data", "--dataset=camus", option)
    assert "a named data set says both itself; leave them out" in said


def test_no_accepted_clip_leaves_a_report_and_no_data_set(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.dcm").write_text("no")
    assert "none of 1 files" in refused(capsys, tmp_path / "in", tmp_path / "data")
    assert report(tmp_path / "data")["x.dcm"]["status"] == "rejected"
    assert not (tmp_path / "data").exists() and not (tmp_path / "data-ingest").exists()


def test_another_run_must_agree_with_the_first(tmp_path, capsys):
    save_npy(tmp_path / "in" / "a.npy")
    assert ingest(tmp_path / "in", tmp_path / "data") == 0
    before = {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    (tmp_path / "other_salt").write_text("o" * 32)
    for option, said in {
        "--size=32": "size 64, not 32",
        "--encoding=jpeg": "encoding 'zstd', not 'jpeg'",
        "--colour": "colour False, not True",
        "--split=60,20,20": "split [80.0, 10.0, 10.0], not [60.0, 20.0, 20.0]",
        f"--salt_file={tmp_path / 'other_salt'}": "(another salt)",
    }.items():
        line = refused(capsys, tmp_path / "in", tmp_path / "data", option)
        assert said in line and "--overwrite" in line
    assert before == {p: p.read_bytes() for p in before}
    assert ingest(tmp_path / "in", tmp_path / "data", "--overwrite", "--size=32") == 0
    assert shards.dataset_info(tmp_path / "data").size == 32


def test_a_data_set_of_fewer_features_is_not_added_to(tmp_path, capsys):
    """As one that was begun before records held a rhythm: TFDS wants the same in all of them."""
    save_npy(tmp_path / "in" / "a.npy")
    assert ingest(tmp_path / "in", tmp_path / "data") == 0
    path = tmp_path / "data-ingest" / "settings.json"
    held = json.loads(path.read_text())
    assert held.pop("features") == len(records.FEATURES)
    path.write_text(json.dumps(held))
    line = refused(capsys, tmp_path / "in", tmp_path / "data")
    assert f"(features None, not {len(records.FEATURES)})" in line and "--overwrite" in line


def test_another_source_is_not_added_to_a_data_set(tmp_path, monkeypatch, capsys):
    """Its p/a.npy is another file, and would be taken for the one that is there."""
    save_npy(tmp_path / "in" / "p" / "a.npy")
    save_npy(tmp_path / "other" / "p" / "a.npy", seed=2)
    data_dir = tmp_path / "data"
    assert ingest(tmp_path / "in", data_dir) == 0
    before = {p: p.read_bytes() for p in data_dir.rglob("*") if p.is_file()}
    line = refused(capsys, tmp_path / "other", data_dir)
    assert "(another source)" in line and "--overwrite" in line and "other/p" not in line
    assert "another source" in refused(capsys, tmp_path / "in" / "p", data_dir)
    assert before == {p: p.read_bytes() for p in before}
    held = (tmp_path / "data-ingest" / "settings.json").read_text()
    assert str(tmp_path) not in held
    # The same folder by another name is the same source.
    (tmp_path / "link").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "link", "in", "in/p/..", "in/*"):
        assert ingest(name, data_dir) == 0
    assert ingest(tmp_path / "other", data_dir, "--overwrite") == 0
    assert report(data_dir)["p/a.npy"]["status"] == "accepted"


def test_a_data_set_without_its_journal_is_replaced_only_when_told(tmp_path, capsys):
    shards.write_dataset(
        tmp_path / "data", {"train": [beating_disc(0)]}, size=32, encoding="zstd", simulated=True
    )
    save_npy(tmp_path / "in" / "a.npy")
    assert "--overwrite" in refused(capsys, tmp_path / "in", tmp_path / "data")
    assert shards.dataset_info(tmp_path / "data").size == 32
    assert ingest(tmp_path / "in", tmp_path / "data", "--overwrite") == 0
    assert shards.dataset_info(tmp_path / "data").size == SIZE


def test_real_frame_times_are_kept(tmp_path):
    file = tmp_path / "in" / "v.mp4"
    file.parent.mkdir()
    screen = fan_screen(1).frames
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=50)
        stream.height, stream.width, stream.pix_fmt = *screen.shape[1:], "yuv420p"
        stream.bit_rate = 8_000_000
        for image in screen:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode())
    assert ingest(tmp_path / "in", tmp_path / "data") == 0
    (example,) = everything(tmp_path / "data")
    np.testing.assert_allclose(example["times"], np.arange(16) / 50, atol=1e-4)
    assert example["fps"] == pytest.approx(50, rel=1e-3)
