"""Views and modes of real shards."""

import numpy as np
import pytest
from test_loader import example, write

from data_pipelines import record_index, records, shards
from data_pipelines.record_index import chosen_records


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


def test_the_index_is_kept_beside_the_shards_and_holds_vocabulary_only(data_dir, caplog):
    chosen_records(data_dir, "train", ["A4C"], [])
    with np.load(shards.dataset_folder(data_dir) / "index-train.npz") as stored:
        assert set(stored["view"]) <= set(records.VIEWS)
        assert set(stored["mode"]) <= set(records.MODES)
        assert set(stored.files) == {"view", "mode", "made_of"}
        assert all(name.startswith("echo_clips-train") for name in stored["made_of"])
    record_index._index.cache_clear()
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [1, 4, 7]
    assert caplog.text.count("looking for views and modes") == 1


def test_a_stale_index_is_made_again(data_dir):
    place = shards.dataset_folder(data_dir) / "index-train.npz"
    np.savez(place, made_of=["other 8"], view=["PLAX"] * 8, mode=["b_mode"] * 8)
    assert len(chosen_records(data_dir, "train", ["PLAX"], [])) == 3
    place.write_bytes(b"cut short")
    record_index._index.cache_clear()
    assert len(chosen_records(data_dir, "train", ["PLAX"], [])) == 3


def test_a_damaged_record_has_no_view(data_dir):
    (shard,) = shards.dataset_folder(data_dir).glob("*array_record-*")
    data = bytearray(shard.read_bytes())
    where = data.index(b"PLAX")
    data[where : where + 4] = b"A4C_"
    shard.write_bytes(data)
    assert chosen_records(data_dir, "train", ["PLAX"], []).tolist() == [4, 7]
    assert 1 not in chosen_records(data_dir, "train", ["A4C"], [])
