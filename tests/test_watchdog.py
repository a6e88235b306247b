"""A step that does not come is answered with every thread's stack, once; nothing else is."""

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import REPO
from test_train import arguments, losses

from echofm_jax import watchdog
from echofm_jax.timeline import Timeline
from echofm_jax.watchdog import Watchdog

# `echofm train` whose main thread stands still for four seconds when it is told to.
STALLS = """
import signal, sys, time
from echofm_jax import cli, watchdog

def stand_still(*_):
    time.sleep(4)

watchdog.FLOOR = 1.5
signal.signal(signal.SIGUSR1, stand_still)
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, said: Path) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < end, said.read_text()
        time.sleep(0.1)


def test_a_stalled_run_shows_where_every_thread_is(tiny_data, tmp_path):
    script, workdir, said = tmp_path / "stalls.py", tmp_path / "run", tmp_path / "said"
    script.write_text(STALLS)
    settings = arguments(workdir, tiny_data, optim__steps=100_000, train__checkpoint_every=100_000)
    command = [sys.executable, "-W", "error", str(script), *settings]
    with (
        said.open("w") as file,
        subprocess.Popen(command, stderr=file, cwd=REPO) as process,
        contextlib.ExitStack() as end,
    ):
        end.callback(process.kill)
        wait_for(lambda: 20 in losses(workdir), process, said)

        def shown() -> bool:
            """Again if it came between two steps, while the checkpoints are asked: no alarm."""
            process.send_signal(signal.SIGUSR1)
            time.sleep(6)
            return "go on after" in said.read_text()

        wait_for(shown, process, said)
    said = said.read_text()
    assert "thread MainThread:" in said and "thread timeline:" in said
    assert "in stand_still\n    time.sleep(4)" in said
    assert "watchdog, host 0: no step for" in said and "usually" in said
    open_ones = said.count("no step for") - said.count("steps go on after")
    assert open_ones in (0, 1)  # once a stall; one more may have begun before the end
    assert re.search(r"steps go on after [234]", said)


@pytest.fixture
def stalled(monkeypatch):
    """A timeline three steps on, and a watchdog that is quickly alarmed."""
    monkeypatch.setattr(watchdog, "FLOOR", 0.05)
    monkeypatch.setattr(watchdog, "TICK", 0.02)
    timeline = Timeline()
    for _ in range(3):
        timeline.running(jax.device_put(np.float32(0)))
        timeline.drain()
    yield timeline
    timeline.stop_watching()


def looks(timeline: Timeline, factor: float, bucket: str) -> None:
    with timeline.time(bucket), Watchdog(timeline, factor):
        time.sleep(0.6)


def test_a_wait_for_data_is_an_alarm(stalled, capsys):
    looks(stalled, 10.0, "data_wait")
    assert capsys.readouterr().err.count("; in: data wait\nthread ") == 1


@pytest.mark.parametrize(
    ("factor", "bucket"), [(10.0, "checkpoint"), (10.0, "compile"), (0, "step")]
)
def test_saving_compiling_and_a_watchdog_that_is_off_are_none(factor, bucket, stalled, capsys):
    stalled.running(jax.device_put(np.float32(0)))
    stalled.drain()
    looks(stalled, factor, bucket)
    assert capsys.readouterr().err == ""


STOPPED = """
import time
import jax
from echofm_jax import watchdog
from echofm_jax.timeline import Timeline

watchdog.FLOOR = 2.0
timeline = Timeline()
for _ in range(3):
    timeline.running(jax.device_put(0.0))
    timeline.drain()
with watchdog.Watchdog(timeline, 10.0) as dog, timeline.time("step"):
    time.sleep(0.5)  # the thread is up
    print("ready", flush=True)
    input()
    print(dog.paused, timeline.progress().waited)
"""


def test_a_process_that_was_stopped_knows_and_raises_no_alarm():
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", STOPPED],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPO,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    said, alarm = process.communicate("\n")
    paused, waited = map(float, said.split())
    assert 2 < paused < waited
    assert alarm == ""
