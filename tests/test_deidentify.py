import stat

import numpy as np
import pytest

from data_pipelines import deidentify
from echofm_jax.errors import InputError

SALT, OTHER = b"s" * 32, b"t" * 32


def test_a_patient_has_one_hash_a_salt():
    first = deidentify.patient_hash(SALT, "204")
    assert first == deidentify.patient_hash(SALT, "204")
    assert len(first) == 16 and int(first, 16) >= 0
    assert first != deidentify.patient_hash(OTHER, "204")
    assert first != deidentify.patient_hash(SALT, "205")
    assert first != deidentify.keyed_hash(SALT, "clip", "204")


def test_parts_are_kept_apart():
    assert deidentify.keyed_hash(SALT, "x", "ab", "c") != deidentify.keyed_hash(
        SALT, "x", "a", "bc"
    )


def test_a_clip_is_its_pixels():
    frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    first = deidentify.clip_hash(SALT, frames)
    assert first == deidentify.clip_hash(SALT, np.asfortranarray(frames))
    assert first != deidentify.clip_hash(OTHER, frames)
    assert first != deidentify.clip_hash(SALT, frames.reshape(2, 4, 3))
    changed = frames.copy()
    changed[1, 2, 3] += 1
    assert first != deidentify.clip_hash(SALT, changed)


def test_the_salt_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "salt"
    first = deidentify.read_salt(path)
    assert len(first) >= 32 and first == deidentify.read_salt(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert first != deidentify.read_salt(tmp_path / "another")


def test_the_default_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ECHOFM_SALT_FILE", str(tmp_path / "mine"))
    assert deidentify.default_salt_file() == tmp_path / "mine"
    monkeypatch.delenv("ECHOFM_SALT_FILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert deidentify.default_salt_file() == tmp_path / ".config" / "echofm" / "salt"


def test_a_weak_or_unreadable_salt_is_refused(tmp_path):
    short = tmp_path / "short"
    short.write_text("fifteen bytes..\n")
    with pytest.raises(InputError, match="16 bytes"):
        deidentify.read_salt(short)
    with pytest.raises(InputError, match="--salt_file"):
        deidentify.read_salt(tmp_path)  # a folder
    with pytest.raises(InputError, match="--salt_file"):
        deidentify.read_salt(short / "below a file")
