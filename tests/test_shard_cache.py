import dataclasses
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_loader import SIZE, example, take, write

from data_pipelines import shard_cache
from data_pipelines.loader import LoaderConfig
from echofm_jax.errors import InputError


def test_the_loader_reads_copies_once_they_are_made(tmp_path):
    data_dir = write(tmp_path / "ds", [example(n) for n in range(4)])
    cfg = LoaderConfig(data_dir=data_dir, batch_size=4, frames=8, size=SIZE, patch=8, workers=1)
    plain = take(cfg, 1)[0]
    copied = dataclasses.replace(cfg, cache_dir=str(tmp_path / "cache"))
    batch = take(copied, 1)[0]
    assert all(np.array_equal(plain[key], batch[key]) for key in plain)
    (copy,) = (tmp_path / "cache").rglob("*array_record-*")
    (shard,) = (tmp_path / "ds").rglob("*array_record-*")
    assert copy.read_bytes() == shard.read_bytes()
    assert "ds" not in str(copy.relative_to(tmp_path / "cache").parent)
    shard.write_bytes(b"")  # of which the loader would tell
    made = copy.stat().st_ino
    with pytest.raises(InputError, match="holds 0 of its 4 records"):
        take(copied, 1)
    assert copy.stat().st_ino == made


def test_a_copy_of_another_size_or_time_is_made_again(tmp_path):
    shard, cache_dir = tmp_path / "shard", str(tmp_path / "cache")
    shard.write_bytes(b"one")
    (copy,) = shard_cache.cached([shard], cache_dir)
    made = copy.stat().st_ino
    assert shard_cache.cached([shard], cache_dir)[0].stat().st_ino == made
    copy.write_bytes(b"cut")
    os.utime(copy, (0, 0))
    assert shard_cache.cached([shard], cache_dir)[0].read_bytes() == b"one"
    shard.write_bytes(b"other")
    assert shard_cache.cached([shard], cache_dir)[0].read_bytes() == b"other"
    assert {path.name for path in copy.parent.iterdir()} == {"shard", ".lock"}


def test_processes_that_start_together_copy_once(tmp_path):
    paths = [tmp_path / str(i) for i in range(20)]
    for path in paths:
        path.write_bytes(os.urandom(100_000))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: shard_cache.cached(paths, str(tmp_path / "c")), range(4)))
    assert found == [found[0]] * 4
    assert [c.read_bytes() for c in found[0]] == [path.read_bytes() for path in paths]


def test_no_room_and_no_folder_are_refused(tmp_path):
    shard = tmp_path / "shard"
    with shard.open("wb") as file:
        file.truncate(shutil.disk_usage(tmp_path).free + (1 << 40))  # holes, no blocks
    with pytest.raises(InputError, match="GB of shards and room for"):
        shard_cache.cached([shard], str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"cannot copy shards to .*choose another"):
        shard_cache.cached([shard], str(shard / "cache"))
    assert shard_cache.cached([shard], "") == [shard]
