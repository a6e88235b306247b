"""Views and modes of real shards."""

import json

import pytest
from test_loader import example, write

from data_pipelines import record_index, records, shards
from data_pipelines.record_index import chosen_records
from echofm_jax import cli


@pytest.fixture(autouse=True)
def forget():
    record_index._index.cache_clear()  # as in another process


@pytest.fixture
def data_dir(tmp_path):
    views, modes = ("A4C", "PLAX", "A4C"), ("b_mode", "contrast")
    examples = [example(n, view=views[n % 3], mode=modes[n % 2]) for n in range(8)]
    return write(tmp_path / "ds", examples)


def test_records_are_chosen_by_view_and_mode(data_dir):
    assert chosen_records(data_dir, "train", ["A4C"], []).tolist() == [0, 2, 3, 5, 6]
    assert chosen_records(data_dir, "train", ["A4C"], ["contrast"]).tolist() == [3, 5]
    assert chosen_records(data_dir, "train", ["A4C", "PLAX"], []).tolist() == [*range(8)]
    assert chosen_records(data_dir, "train", ["SSN"], []).tolist() == []


def index(data_dir):
    return record_index.index_path(shards.dataset_folder(data_dir), "train")


def test_the_index_is_kept_beside_the_shards_and_holds_numbers_only(data_dir, caplog):
    chosen_records(data_dir, "train", ["A4C"], [])
    stored = json.loads(index(data_dir).read_text())
    (path,) = shards.dataset_folder(data_dir).glob("*array_record-*")
    assert stored["shards"] == {path.name: path.stat().st_size}
    assert [records.VIEWS[n] for n in stored["view"][:3]] == ["A4C", "PLAX", "A4C"]
    assert [records.MODES[n] for n in stored["mode"][:2]] == ["b_mode", "contrast"]
    assert set(stored) == {"shards", "view", "mode", "sha256"}
    record_index._index.cache_clear()
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [1, 4, 7]
    assert caplog.text.count("looking for views and modes") == 1
    assert [path.name for path in index(data_dir).parent.glob("*index*")] == ["index-train.json"]


def other_shards(data: bytes) -> bytes:
    """A whole index, as it was before a shard was written anew."""
    stored = json.loads(data)
    sizes = {name: size - 1 for name, size in stored["shards"].items()}
    rows = list(zip(stored["view"], stored["mode"], strict=True))
    return record_index.as_bytes(sizes, rows)


@pytest.mark.parametrize(
    "change",
    [
        other_shards,
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"view": [1,', b'"view": [4,'),
        lambda _: b"",
        lambda _: b"\xff\xfe",
        lambda _: b"[" * 100_000,
        lambda _: b"[1]",
        lambda _: b'{"view": [1], "mode": [1, 2], "shards": 5}',
        lambda _: b'{"view": [1e400], "mode": [{}], "shards": 5}',
        lambda data: data.replace(b'"view": [1,', b'"view": [1, [2],'),
    ],
)
def test_an_index_that_is_stale_or_damaged_is_made_again(data_dir, change):
    chosen_records(data_dir, "train", [], [])
    whole = index(data_dir).read_bytes()
    spoiled = change(whole)
    assert spoiled != whole
    index(data_dir).write_bytes(spoiled)
    record_index._index.cache_clear()
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [1, 4, 7]
    assert index(data_dir).read_bytes() == whole


def test_an_index_of_other_vocabularies_is_made_again(data_dir, monkeypatch):
    chosen_records(data_dir, "train", [], [])
    monkeypatch.setattr(records, "VIEWS", ("", "PLAX", "A4C"))
    record_index._index.cache_clear()
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [1, 4, 7]


def test_what_a_killed_process_left_is_no_index(data_dir):
    half = index(data_dir).with_name(".index-train.json")
    half.write_bytes(b"{")
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [1, 4, 7]
    assert index(data_dir).is_file() and not half.exists()


def test_a_folder_that_cannot_be_written_has_no_index(data_dir):
    index(data_dir).with_name(".index-train.json").mkdir()  # who is root may write anywhere
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [1, 4, 7]
    assert not index(data_dir).exists()


def spoil(data_dir) -> bytes:
    """Make record 1 unreadable; what the shard held before."""
    (shard,) = shards.dataset_folder(data_dir).glob("*array_record-*")
    whole = shard.read_bytes()
    where = whole.index(b"PLAX")
    shard.write_bytes(whole[:where] + b"A4C_" + whole[where + 4 :])
    return whole


def test_a_damaged_record_has_no_view_and_is_not_remembered(data_dir, monkeypatch):
    monkeypatch.setattr(record_index, "PAUSES", (0.01,))
    spoil(data_dir)
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [4, 7]
    assert not index(data_dir).exists()


def test_a_read_that_fails_for_a_moment_is_tried_again(data_dir, monkeypatch):
    whole = spoil(data_dir)
    (shard,) = shards.dataset_folder(data_dir).glob("*array_record-*")

    def pauses():  # the file server is well again after the first
        yield 0
        shard.write_bytes(whole)
        yield 0

    monkeypatch.setattr(record_index, "PAUSES", pauses())
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [1, 4, 7]
    assert index(data_dir).exists()


def test_the_audit_knows_an_index_and_checks_all_of_it(data_dir, capsys):
    def findings():
        cli.main(["inspect", "--privacy", data_dir, "--workers=1"])
        told = capsys.readouterr().out.splitlines()
        return [line for line in told if "index" in line or "belong" in line]

    assert not findings()  # there is none yet
    chosen_records(data_dir, "train", ["PLAX"], [])
    assert not findings()
    whole = index(data_dir).read_bytes()
    for spoiled in (whole + b" ", whole.replace(b"[1,", b"[2,"), b'{"DOE^JANE": 1}'):
        index(data_dir).write_bytes(spoiled)
        (line,) = findings()
        assert line.startswith("finding: index-train.json: not what its records make")
    index(data_dir).rename(index(data_dir).with_name("index-val.json"))
    told = cli.main(["inspect", "--privacy", data_dir, "--workers=1"])
    assert told == 1 and "a file that does not belong there" in capsys.readouterr().out
