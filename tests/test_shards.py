"""Shards as TFDS reads them, and what happens when they are not whole."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import beating_disc

from data_pipelines import shards
from echofm_jax.errors import InputError


def write(folder, **splits):
    counts = {name: map(beating_disc, numbers) for name, numbers in splits.items()}
    return shards.write_dataset(folder, counts, size=32, encoding="zstd")


def test_tfds_opens_it_by_name(tmp_path):
    assert write(tmp_path, train=range(5), val=range(5, 7)) == {"train": 5, "val": 2}
    source = tfds.builder("echo_clips", data_dir=tmp_path).as_data_source("train")
    assert [example["clip_id"].decode() for example in source] == [f"{n:016x}" for n in range(5)]
    first = source[0]
    assert len(first["frames"]) == 40 and first["view"] == b"A4C"
    np.testing.assert_allclose(first["phase"], beating_disc(0)["phase"])
    info = shards.dataset_info(tmp_path)
    assert (info.size, info.encoding, info.colour, info.simulated) == (32, "zstd", False, False)


def test_a_large_split_becomes_several_shards_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 30_000)
    write(tmp_path, train=range(8))
    assert len(list(tmp_path.rglob("*-train.array_record-*"))) > 2
    found = [example["clip_id"].decode() for example in shards.open_split(tmp_path, "train")]
    assert found == [f"{n:016x}" for n in range(8)]


def test_an_empty_split_is_not_written(tmp_path):
    write(tmp_path, train=range(2), val=range(0))
    with pytest.raises(InputError, match=r"no split 'val' in .*: it has train"):
        shards.open_split(tmp_path, "val")


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def broken():
        yield beating_disc(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shards.write_dataset(tmp_path / "d", {"train": broken()}, size=32, encoding="zstd")
    assert not (tmp_path / "d").exists()
    with pytest.raises(InputError, match="no data set in"):
        shards.dataset_info(tmp_path / "d")


def test_a_data_set_is_not_overwritten(tmp_path):
    write(tmp_path, train=range(2))
    with pytest.raises(InputError, match="holds a data set already"):
        write(tmp_path, train=range(3))
    assert shards.dataset_info(tmp_path).records == {"train": 2}


def test_a_missing_shard_is_told(tmp_path):
    write(tmp_path, train=range(2))
    (shard,) = tmp_path.rglob("*array_record-*")
    shard.unlink()
    with pytest.raises(InputError, match=r"shard echo_clips-train.* is missing"):
        shards.open_split(tmp_path, "train")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_shard_that_was_cut_short_is_told(tmp_path, kept):
    write(tmp_path, train=range(2))
    (shard,) = tmp_path.rglob("*array_record-*")
    data = shard.read_bytes()
    shard.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(InputError, match=r"shard echo_clips-train.* holds 0 of its 2 records"):
        shards.open_split(tmp_path, "train")


def test_damaged_metadata_are_told(tmp_path):
    write(tmp_path, train=range(2))
    (path,) = tmp_path.rglob("echofm.json")
    path.write_text('{"size": 32')
    with pytest.raises(InputError, match="is damaged"):
        shards.dataset_info(tmp_path)


def test_shards_that_do_not_hold_what_was_written_are_our_fault(tmp_path):
    with (
        pytest.raises(RuntimeError, match="do not hold what was written"),
        shards.new_dataset(tmp_path / "d") as folder,
    ):
        writer = shards.SplitWriter(folder, "train")
        writer.write(shards.serialize(beating_disc(0)))
        writer.identities[0] = writer.identities[0]._replace(clip_id="0" * 15 + "9")
        shards.describe(
            folder, {"train": writer}, size=32, encoding="zstd", colour=False, simulated=False
        )
        shards.verify(folder, {"train": writer})
    assert not (tmp_path / "d").exists()


def test_a_patient_in_two_splits_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="0000000000000001 is in two splits, train and val"):
        write(tmp_path / "d", train=range(2), val=[1])
    assert not (tmp_path / "d").exists()


def test_a_full_disk_is_told_as_such(tmp_path):
    """Another folder in the shard's place."""
    writer = shards.SplitWriter(tmp_path, "train")
    (tmp_path / "part-train-0").mkdir()
    with pytest.raises(OSError, match="directory"):
        writer.write(shards.serialize(beating_disc(0)))
