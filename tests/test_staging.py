"""Files are worked on once: whoever is killed, what is staged stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_assembly import DECISION, add_files, arguments, killed
from test_sector import fan_screen
from test_volumes import mhd

from data_pipelines import staging, workers
from data_pipelines.labels import Label
from data_pipelines.one_file import Outcome, Task, Treatment, stamps


def task(folder: Path, key: str = "00ab") -> Task:
    how = Treatment(salt=b"s" * 32, size=32, encoding="zstd", colour=False, fps=0.0,
                    trust_header=True, precropped=False, staged=folder / "staged")  # fmt: skip
    return Task(folder / "nothing.npy", "n", key, (), "p", Label(), how)


def test_what_is_put_is_what_is_got(tmp_path):
    outcome = Outcome(mode="b_mode", frames=3, fps=29.97, clip_id="c", sizes=(2, 0, 3))
    assert staging.missing([task(tmp_path)]) == [task(tmp_path)]
    assert staging.get_outcome(tmp_path / "staged", "00ab") is None
    staging.put(task(tmp_path), outcome, [b"\n{", b"", b"xyz"])
    assert staging.get_outcome(tmp_path / "staged", "00ab") == outcome
    assert staging.get_records(tmp_path / "staged", "00ab") == [b"\n{", b"", b"xyz"]
    assert staging.missing([task(tmp_path)]) == []


def test_a_file_that_cannot_be_read_is_an_outcome(tmp_path):
    staging.stage(task(tmp_path))
    outcome = staging.get_outcome(tmp_path / "staged", "00ab")
    assert outcome.reason == "missing"


def test_what_may_have_been_bad_luck_is_taken_again(tmp_path):
    """A run that was cut short found a file gone; the next one does not believe it."""
    path = tmp_path / "clip.npy"
    again = task(tmp_path)._replace(path=path)
    staging.run([again], 1, None)
    assert staging.get_outcome(tmp_path / "staged", again.key).reason == "missing"
    np.save(path, fan_screen(1).frames)
    staging.run([again._replace(stamps=stamps(path, again.label))], 1, None)
    assert staging.get_outcome(tmp_path / "staged", again.key).reason == ""


def test_a_file_that_hangs_is_an_outcome(tmp_path, monkeypatch):
    """The pixels of a MetaImage come from a pipe that nobody writes into."""
    monkeypatch.setattr(workers, "PATIENCE", 4.0)
    path = mhd(tmp_path / "a.mhd")
    path.with_suffix(".raw").unlink()
    os.mkfifo(path.with_suffix(".raw"))
    hanging = task(tmp_path)._replace(path=path)
    staging.run([hanging], 1, None)
    outcome = staging.get_outcome(tmp_path / "staged", hanging.key)
    assert outcome == staging.HUNG and outcome.retried and not outcome.sizes


def test_large_files_may_take_longer(tmp_path):
    large = task(tmp_path)._replace(stamps=((10**9, 0),))
    assert staging.time_limit(large) == 1000 + staging.time_limit(task(tmp_path)) >= 1300


def test_a_full_disk_is_no_outcome(tmp_path):
    """Another file in the folder's place, so that root is refused too."""
    (tmp_path / "staged").write_text("")
    with pytest.raises(OSError):
        staging.stage(task(tmp_path))


def test_killed_while_it_reads_files_it_redoes_none(tmp_path):
    """The parent is killed; its workers go too, and what is staged is not touched again."""
    add_files(tmp_path, range(8))
    (tmp_path / "salt").write_text("s" * 32)
    command = [sys.executable, "-m", "echofm_jax.cli", *arguments(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    pieces = lambda: sorted(tmp_path.glob("data-ingest/staged/*/[0-9a-f]*"))  # noqa: E731
    while process.poll() is None and len(pieces()) < 2:
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    assert process.wait() == -signal.SIGKILL and children
    waited = time.monotonic() + 60  # for a file that is half read
    while alive := [child for child in children if Path(f"/proc/{child}").exists()]:
        assert time.monotonic() < waited, f"{len(alive)} workers outlive their parent"
        time.sleep(0.05)
    before = {path: path.stat().st_mtime_ns for path in pieces()}
    assert 2 <= len(before) < 8
    assert killed(tmp_path, DECISION)
    after = {path: path.stat().st_mtime_ns for path in pieces()}
    assert before.items() < after.items() and len(after) == 8
