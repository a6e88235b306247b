"""gs:// addresses."""

from pathlib import Path

import pytest

from data_pipelines import shards
from echofm_jax import cli
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError


def test_an_address_is_its_mounted_place(monkeypatch):
    assert local_path("runs/a") == local_path(Path("runs/a")) == Path("runs/a")
    monkeypatch.setenv("ECHOFM_BUCKETS", "/")  # where proc is a mount
    assert local_path("gs://proc/self/status") == Path("/proc/self/status")
    assert local_path("gs://proc") == Path("/proc")


@pytest.mark.parametrize("address", ["gs://", "gs:///a", "gs:/b/a", "gs://B/a"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="not an address such as gs://BUCKET/FOLDER"):
        local_path(address)


def test_commands_refuse_a_bucket_that_is_not_mounted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECHOFM_BUCKETS", str(tmp_path))
    assert cli.main(["evaluate", "--workdir=gs://b/run"]) == 2
    assert "no bucket is mounted at" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"run launch/mount_buckets\.sh b first"):
        shards.dataset_info("gs://b/data")
    assert not list(tmp_path.iterdir())
