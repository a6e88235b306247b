"""A tied process: it waits for the lock, keeps it to its end, and ends with its parent."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TIED = (sys.executable, "-m", "echofm_jax.tied")


def free(lock: Path) -> bool:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_waits_for_the_lock_and_keeps_it_as_another_program(tmp_path):
    lock, began = tmp_path / "lock", tmp_path / "began"
    program = f"touch {began}; read line"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [*TIED, str(os.getpid()), str(lock), "/bin/sh", "-c", program], stdin=subprocess.PIPE
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert not began.exists()
    wait_for(began.exists)
    assert not free(lock)
    process.communicate(b"\n")
    assert process.returncode == 0 and free(lock)


def test_it_is_told_to_stop_when_its_parent_is_killed(tmp_path):
    lock, told, began = (tmp_path / name for name in ("lock", "told", "began"))
    program = f"trap 'touch {told}; exit' TERM; touch {began}; while :; do sleep 0.05; done"
    code = (
        "import os, subprocess\n"
        f"command = [*{TIED!r}, str(os.getpid()), {str(lock)!r}, '/bin/sh', '-c', {program!r}]\n"
        "subprocess.run(command)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_for(began.exists)
    parent.kill()
    parent.wait()
    wait_for(told.exists)
    wait_for(lambda: free(lock))


def test_a_parent_that_is_gone_already_is_noticed(tmp_path):
    begun = subprocess.run([*TIED, "1", str(tmp_path / "lock"), "/bin/sh"], check=False)
    assert begun.returncode == 75 and not (tmp_path / "lock").exists()
