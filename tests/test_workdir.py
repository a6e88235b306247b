"""A workdir on one host; what several of them do with it is in test_cluster.py."""

import pytest

from echofm_jax.errors import InputError
from echofm_jax.workdir import open_workdir


def test_a_workdir_is_made_and_left_empty(tmp_path):
    open_workdir(tmp_path / "a" / "run")
    assert not list((tmp_path / "a" / "run").iterdir())
    open_workdir(tmp_path / "a" / "run")  # again, as a run that goes on


def test_what_is_in_it_stays(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    open_workdir(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to workdir .*/file/run: Not a directory"):
        open_workdir(tmp_path / "file" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
