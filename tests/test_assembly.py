"""Shards are decided beforehand: however often their making is begun, they are the same bytes."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_sector import fan_screen

from data_pipelines import shards
from data_pipelines.deidentify import keyed_hash
from echofm_jax import cli

SHARD_BYTES = 20_000
# A process that kills itself with signal 9 when it is about to do what the pattern says, or the
# so-manieth of the things that change a file's name.
DRIVER = f"""
import fnmatch, os, re, signal, sys
from data_pipelines import shards
from echofm_jax import cli
shards.SHARD_BYTES = {SHARD_BYTES}
moment, seen = sys.argv[1], 0
pattern = re.compile(fnmatch.translate(moment))
def hook(event, arguments):
    global seen
    if event in ("os.rename", "os.link", "os.remove", "os.rmdir", "shutil.rmtree"):
        seen += 1
    elif event not in ("open", "ctypes.dlsym"):
        return
    if pattern.match(f"{{event}} {{arguments}}") or str(seen) == moment:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
sys.exit(cli.main(sys.argv[2:]))
"""
DECISION = "os.rename*files-0000*"
METADATA, DESCRIPTION = "open*.building-*features.json*", "open*.building-*echofm.json*'w'*"
SWAP, REMOVAL = "ctypes.dlsym*renameat2*", "os.rename*1.0.0.building-gone*"


def arguments(folder: Path) -> list[str]:
    return ["ingest", f"--source={folder / 'in'}", f"--data_dir={folder / 'data'}", "--size=64",
            f"--salt_file={folder / 'salt'}", "--workers=1", "--encoding=zstd"]  # fmt: skip


def killed(folder: Path, moment: str, *more: str) -> bool:
    """Ingest in a process of its own; whether it came to the moment and was killed there."""
    command = [sys.executable, "-c", DRIVER, moment, *arguments(folder), *more]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return result.returncode != 0


def add_files(folder: Path, numbers) -> None:
    for number in numbers:
        path = folder / "in" / f"p{number % 5}" / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, fan_screen(number % 3 + 1).frames[: 8 + number])


def stored(folder: Path) -> dict[str, bytes]:
    place = shards.target_folder(folder / "data")
    return {p.name: p.read_bytes() for p in place.glob("*.array_record-*")}


def places(folder: Path) -> dict[str, str]:
    """Patient → split, as the shards have it."""
    found = {}
    for split in shards.dataset_info(folder / "data").records:
        for example in shards.open_split(folder / "data", split):
            assert found.setdefault(example["patient_id"], split) == split
    return found


def copy(folder: Path, to: Path) -> Path:
    """Everything of a build as if it had been made there; files with their times."""
    shutil.copytree(folder, to)
    begun = to / "data-ingest" / "settings.json"
    here = keyed_hash(b"s" * 32, "source", str((to / "in").resolve()))
    begun.write_text(json.dumps(json.loads(begun.read_text()) | {"source": here}))
    return to


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source, and what became of it without any interruption: eight files, several shards."""
    folder = tmp_path_factory.mktemp("built") / "whole"
    folder.mkdir()
    (folder / "salt").write_text("s" * 32)
    add_files(folder, range(8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", SHARD_BYTES)
        assert cli.main(arguments(folder)) == 0
    assert len(stored(folder)) > 3
    return folder


@pytest.fixture(scope="module")
def staged(built, tmp_path_factory):
    """The same source with every file staged, and not one shard."""
    folder = tmp_path_factory.mktemp("staged") / "half"
    folder.mkdir()
    shutil.copy(built / "salt", folder / "salt")
    shutil.copytree(built / "in", folder / "in")
    assert killed(folder, DECISION)
    assert len(list(folder.glob("data-ingest/staged/*/*"))) == 8
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", SHARD_BYTES)


def test_killed_again_and_again_it_ends_with_the_same_bytes(built, staged, tmp_path):
    """Between two shards, when all are there, and in the middle of their description."""
    folder = copy(staged, tmp_path / "copy")
    names = []
    for moment in ("7", METADATA, DESCRIPTION):
        assert killed(folder, moment)
        names.append(sorted(p.name for p in (folder / "data").rglob("*.array_record-*")))
        assert not (folder / "data/echo_clips/1.0.0").exists()
    assert 0 < len(names[0]) < len(names[1]) == len(names[2])
    assert not list((folder / "data-ingest").glob("staged/*/*"))  # all lies in shards
    assert cli.main(arguments(folder)) == 0
    assert stored(folder) == stored(built) and places(folder) == places(built)
    assert [p.name for p in (folder / "data/echo_clips").iterdir()] == ["1.0.0"]


@pytest.mark.slow
def test_killed_at_every_moment_it_ends_with_the_same_bytes(built, staged, tmp_path):
    for moment in range(1, 100):  # 18 of them until the data set is there, then it tidies up
        folder = copy(staged, tmp_path / str(moment))
        if not killed(folder, str(moment)):
            break
        assert cli.main(arguments(folder)) == 0
        assert stored(folder) == stored(built), moment
    assert 10 < moment < 99


def test_new_files_add_shards_and_move_nobody(built, tmp_path):
    folder = copy(built, tmp_path / "copy")
    before, patients = stored(folder), places(folder)
    files = {p.read_bytes(): p.stat().st_ino for p in (folder / "data").rglob("*.array_record-*")}
    add_files(folder, range(8, 11))
    save = folder / "in" / "new" / "0.npy"  # sorted before others of its kind, a patient of its own
    save.parent.mkdir()
    np.save(save, fan_screen(30).frames[:9])
    assert cli.main(arguments(folder)) == 0
    after = stored(folder)
    assert set(before.values()) < set(after.values()) and len(after) > len(before)
    now = {p.read_bytes(): p.stat().st_ino for p in (folder / "data").rglob("*.array_record-*")}
    assert files.items() < now.items()  # linked, not copied
    assert patients.items() < places(folder).items()
    assert sum(shards.dataset_info(folder / "data").records.values()) == 12
    # And again: nothing to do.
    assert cli.main(arguments(folder)) == 0
    assert stored(folder) == after


@pytest.mark.slow
def test_killed_while_it_adds_files(built, tmp_path):
    """Before and after the folders change places; then with still more files."""
    grown = copy(built, tmp_path / "grown")
    folder = copy(built, tmp_path / "copy")
    for each in (grown, folder):
        add_files(each, range(8, 10))
    for path in (grown / "in").rglob("*.npy"):
        shutil.copystat(path, folder / path.relative_to(grown))
    assert cli.main(arguments(grown)) == 0
    assert killed(folder, SWAP)
    assert places(folder) == places(built)
    assert killed(folder, REMOVAL)
    assert places(folder) == places(grown)
    assert cli.main(arguments(folder)) == 0
    assert stored(folder) == stored(grown)


@pytest.mark.slow
def test_what_was_replaced_is_not_taken_for_something_else(built, tmp_path):
    """Killed while it removes the data set that --overwrite replaced, then given more files."""
    folder = copy(built, tmp_path / "copy")
    assert killed(folder, "os.remove*echofm.json*", "--overwrite", "--size=48")
    replaced = stored(folder)
    assert not set(replaced.values()) & set(stored(built).values())
    add_files(folder, [8])
    assert cli.main([*arguments(folder), "--size=48"]) == 0
    assert set(replaced.values()) < set(stored(folder).values())


def test_a_changed_file_is_reported_and_the_old_one_kept(built, tmp_path, capsys):
    folder = copy(built, tmp_path / "copy")
    np.save(folder / "in" / "p1" / "1.npy", fan_screen(3).frames[:9])
    (folder / "in" / "p2" / "2.npy").unlink()
    assert cli.main([*arguments(folder), "--json"]) == 0
    said = capsys.readouterr().out
    assert '"changed": 1, "gone": 1' in said and "p1" not in said
    row = next(r for r in (folder / "data-report.csv").read_text().splitlines() if "p1/1" in r)
    assert row.startswith("p1/1.npy,changed,changed,the data set holds the file as it was")
    assert stored(folder) == stored(built)


def drop_last(folder: Path) -> Path:
    """Take a record from a shard as if a disk had lost it: what is left is sound."""
    shard = max((folder / "data").rglob("*.array_record-*"), key=lambda p: p.stat().st_size)
    held = list(shards.read_shard(shard))
    shard.unlink()  # another name of it, in another data set, keeps the old one
    writer = shards.ArrayRecordWriter(str(shard), shards.WRITER_OPTIONS)
    for data in held[:-1]:
        writer.write(data)
    writer.close()
    return shard


def refused(folder: Path, capsys) -> str:
    assert cli.main(arguments(folder)) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_shard_that_is_damaged_before_it_has_its_place(staged, tmp_path, capsys):
    folder = copy(staged, tmp_path / "copy")
    assert killed(folder, METADATA)
    shard = drop_last(folder)
    said = refused(folder, capsys)
    assert f"shard {shard.name} is damaged" in said and "start afresh with --overwrite" in said
    assert not (folder / "data/echo_clips/1.0.0").exists()


@pytest.mark.parametrize("more", [[], [8]])  # nothing to do; shards to link
@pytest.mark.parametrize("damage", [drop_last, "cut", "zeroed"])
def test_a_damaged_shard_is_no_part_of_a_data_set(built, tmp_path, capsys, damage, more):
    folder = copy(built, tmp_path / "copy")
    if damage is drop_last:
        shard = drop_last(folder)
    else:
        shard = max((folder / "data").rglob("*-train.*"), key=lambda p: p.stat().st_size)
        data = shard.read_bytes()
        half = len(data) // 2
        shard.write_bytes(data[:half] + bytes(half if damage == "zeroed" else 0))
    before = stored(folder)
    add_files(folder, more)
    said = refused(folder, capsys)
    assert f"shard {shard.name} is damaged" in said and "start afresh with --overwrite" in said
    assert stored(folder) == before
    assert cli.main([*arguments(folder), "--overwrite"]) == 0
    assert sum(shards.dataset_info(folder / "data").records.values()) == 8 + len(more)


def test_a_flipped_byte_is_found_before_a_shard_is_linked(built, tmp_path, capsys):
    folder = copy(built, tmp_path / "copy")
    shard = max((folder / "data").rglob("*-train.*"), key=lambda p: p.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[5000] ^= 255
    shard.write_bytes(data)
    add_files(folder, [8])
    assert f"shard {shard.name} is damaged" in refused(folder, capsys)


def test_shards_that_are_gone_are_told(built, tmp_path, capsys):
    folder = copy(built, tmp_path / "copy")
    shutil.rmtree(folder / "data")
    assert cli.main(arguments(folder)) == 2
    assert "start afresh with --overwrite" in capsys.readouterr().err.splitlines()[-1]


def test_two_at_a_time_are_refused(staged, capsys):
    lock = os.open(staged / "data-ingest", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert cli.main(arguments(staged)) == 2
    os.close(lock)
    assert "another ingest is writing" in capsys.readouterr().err
