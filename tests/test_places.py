"""Where a data set goes and what must not lie in it, as the command's users see it."""

import os
import shutil

import pytest
from test_ingest import ingest, refused, report, save_npy

from data_pipelines import shards


def test_what_is_its_owners_alone_does_not_lie_in_the_data_set(tmp_path, capsys):
    save_npy(tmp_path / "in" / "a.npy")
    data_dir = tmp_path / "data"
    (tmp_path / "elsewhere").symlink_to(data_dir)
    (tmp_path / "mine").symlink_to(data_dir / "salt")
    for path in (data_dir / "x", tmp_path / "data-ingest" / "x", tmp_path / "elsewhere" / "x",
                 data_dir / "a" / ".." / "x", tmp_path / "mine"):  # fmt: skip
        for option in ("--salt_file", "--report"):
            line = refused(capsys, tmp_path / "in", data_dir, f"{option}={path}")
            assert f"{option} {path}: lies in" in line and "give another place" in line
    assert not data_dir.exists() and not (tmp_path / "data-ingest").exists()
    data_dir.mkdir()
    (tmp_path / "own.csv").touch()
    (data_dir / "report.csv").symlink_to(tmp_path / "own.csv")
    assert "lies in" in refused(
        capsys, tmp_path / "in", data_dir, f"--report={data_dir / 'report.csv'}"
    )
    (tmp_path / "data2").mkdir()  # no part of it, though its name begins alike
    options = f"--report={tmp_path / 'data2' / 'r.csv'}", f"--salt_file={tmp_path / 'data2' / 's'}"
    assert ingest(tmp_path / "in", data_dir, *options) == 0


def test_nothing_of_its_owners_lies_in_another_data_set(tmp_path, tiny_data, monkeypatch, capsys):
    save_npy(tmp_path / "in" / "a.npy")
    shutil.copytree(tiny_data, tmp_path / "ds")
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "ds" / "link").symlink_to(tmp_path / "away")  # its neighbours lie in ds
    (tmp_path / "way").symlink_to(tmp_path / "ds")
    monkeypatch.chdir(tmp_path / "ds")
    for name in ("x", tmp_path / "ds/x/y/z", tmp_path / "ds/link", tmp_path / "way/x"):
        line = refused(capsys, tmp_path / "in", name, f"--salt_file={tmp_path / 'salt'}")
        assert f"--data_dir {name}: lies in the data set {tmp_path / 'ds'}, and" in line
    for option in ("--salt_file", "--report"):
        line = refused(capsys, tmp_path / "in", tmp_path / "data", f"{option}=x/y")
        assert f"{option} x/y: lies in the data set {tmp_path / 'ds'}, and" in line
    (tmp_path / "ds" / "link").unlink()
    (tmp_path / "way").unlink()
    assert sorted(tmp_path.rglob("*")) == before
    # A folder that holds no data set may hold several, and is none itself.
    assert ingest(tmp_path / "in", tmp_path / "more" / "x") == 0
    assert ingest(tmp_path / "in", tmp_path / "more" / "y") == 0
    before = sorted((tmp_path / "more").rglob("*"))
    for above in (tmp_path / "more", tmp_path):
        line = refused(capsys, tmp_path / "in", above, "--overwrite")
        assert f"--data_dir {above}: the data set {tmp_path}" in line and "lies in it" in line
    assert sorted((tmp_path / "more").rglob("*")) == before


@pytest.mark.parametrize("folder", ["/proc/reports", "/proc"])
def test_a_report_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys, folder):
    """Nobody can write there, not even root."""
    save_npy(tmp_path / "in" / "a.npy")
    line = refused(capsys, tmp_path / "in", tmp_path / "data", f"--report={folder}/r.csv")
    assert f"--report {folder}/r.csv: " in line and "give another place" in line
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_source_where_the_journal_goes_is_left_alone(tmp_path, capsys):
    held = save_npy(tmp_path / "raw-ingest" / "a" / "a.npy")
    for source in (held, held.parent, tmp_path / "raw-ingest"):
        line = refused(capsys, source, tmp_path / "raw", "--overwrite")
        assert "the source lies in" in line and "raw-ingest: give the data set a folder" in line
    assert held.exists()


@pytest.mark.parametrize("named", [[], ["--dataset=camus"]])
def test_an_empty_source_is_not_the_current_folder(tmp_path, monkeypatch, capsys, named):
    save_npy(tmp_path / "in" / "a.npy")
    monkeypatch.chdir(tmp_path / "in")
    assert "--source is empty" in refused(capsys, "", tmp_path / "data", *named)
    assert {p.name for p in tmp_path.iterdir()} == {"in"}


def test_a_report_replaces_a_report_and_nothing_else(tmp_path, monkeypatch, capsys):
    save_npy(tmp_path / "in" / "a.npy")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "study.csv").write_text("patient,grade\n1,2\n")
    line = refused(capsys, tmp_path / "in", tmp_path / "data", "--report=~/study.csv")
    assert f"--report {tmp_path}/study.csv: another file lies there" in line
    assert (tmp_path / "study.csv").read_text() == "patient,grade\n1,2\n"
    for _ in range(2):
        assert ingest(tmp_path / "in", tmp_path / "data", "--report=~/own.csv") == 0
    assert (tmp_path / "own.csv").read_text().startswith("file,status")


@pytest.mark.parametrize("held", ["file,notes\n", "file,status\n", "file\n", "file,detail,x\n"])
def test_a_table_of_other_columns_is_not_replaced(tmp_path, capsys, held):
    save_npy(tmp_path / "in" / "a.npy")
    for name, options in {
        "own.csv": [f"--report={tmp_path / 'own.csv'}"], "data-report.csv": [],
        "data-review.csv": ["--review"],
    }.items():  # fmt: skip
        (tmp_path / name).write_text(held)
        line = refused(capsys, tmp_path / "in", tmp_path / "data", *options)
        assert f"{tmp_path / name}: another file lies there" in line
        assert (tmp_path / name).read_text() == held
        (tmp_path / name).unlink()
    assert {p.name for p in tmp_path.iterdir()} == {"in"}


def test_a_report_cannot_replace_a_folder_or_a_device(tmp_path, capsys):
    save_npy(tmp_path / "in" / "a.npy")
    os.mkfifo(tmp_path / "pipe")
    for path, said in {tmp_path / "in": "is a folder", tmp_path / "pipe": "or a device",
                       tmp_path / "in" / "a.npy" / "x": "Not a directory"}.items():  # fmt: skip
        line = refused(capsys, tmp_path / "in", tmp_path / "data", f"--report={path}")
        assert f"--report {path}: " in line and said in line
    (tmp_path / "data-review.csv").mkdir()
    line = refused(capsys, tmp_path / "in", tmp_path / "data", "--review")
    assert "review" in line and "is a folder" in line
    assert not (tmp_path / "data-ingest").exists()  # so that other settings are free


def test_the_tables_of_an_earlier_run_are_replaced(tmp_path):
    save_npy(tmp_path / "in" / "a.npy")
    for _ in range(2):
        assert ingest(tmp_path / "in", tmp_path / "data", "--review") == 0
    assert (tmp_path / "data-review.csv").read_text() == "file,detail\n"


@pytest.mark.parametrize(("name", "below"), [(".", ""), ("..", "below")])
def test_a_data_set_in_this_folder_or_the_one_above(tmp_path, monkeypatch, name, below):
    save_npy(tmp_path / "in" / "a.npy")
    place = tmp_path / "here"
    (place / below).mkdir(parents=True)
    monkeypatch.chdir(place / below)
    for data_dir in (name, place):  # the same folder, so there is nothing to do again
        assert ingest(tmp_path / "in", data_dir, f"--salt_file={tmp_path / 'salt'}") == 0
        assert shards.dataset_info(place).records == {"train": 1}
        assert report(place)["a.npy"]["status"] == "accepted"
        assert {p.name for p in tmp_path.iterdir()} == {
            "in", "salt", "here", "here-ingest", "here-report.csv",
        }  # fmt: skip
        assert {p.name for p in place.iterdir()} == {"echo_clips", *filter(None, [below])}


def test_places_that_cannot_hold_a_data_set(tmp_path, monkeypatch, capsys):
    save_npy(tmp_path / "in" / "a.npy")
    monkeypatch.setenv("ECHOFM_BUCKETS", "/")  # where proc is a mount
    monkeypatch.chdir("/proc")
    salt = f"--salt_file={tmp_path / 'salt'}"
    for name, said in {
        "/": "is a whole disk or bucket", "//": "such as /echo", "/proc": "such as /proc/echo",
        ".": "such as ./echo", "..": "such as ../echo", "gs://proc": "such as gs://proc/echo",
        "gs://proc/": "such as gs://proc/echo", "gs://": "not an address", "": "is empty",
        str(tmp_path / "in"): "the source lies in", str(tmp_path): "the source lies in",
    }.items():  # fmt: skip
        assert said in refused(capsys, tmp_path / "in", name, salt), name
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
