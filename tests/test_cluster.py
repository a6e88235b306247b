"""Real clusters on this machine: processes that talk over loopback, are stopped, killed, misled."""

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO, overrides
from test_checkpoint import damage

from echofm_jax.errors import InputError, TryAgain
from echofm_jax.metrics import read_metrics

STEPS = 20
LOSSES = ("loss", "recon", "triplet", "cycle", "grad_norm")
RECORDS = 12  # of tiny_data
FLAGS = os.environ.get("XLA_FLAGS", "")
# `echofm train`, but on a host whose clock is wrong and whose disk is slow, and which writes down
# every batch: where the stream of clips stands after it, and which records it held.
HOST = """
import json, os, sys, time
from echofm_jax import cli, train
true, wrong = time.time, float(os.environ.get("CLOCK", 0))
time.time = lambda: true() + wrong
from data_pipelines.loader import Loader, make_loader

class Recorded(Loader):
    def __next__(self):
        time.sleep(float(os.environ.get("PAUSE", 0)))
        batch = super().__next__()
        (position,) = self.get_state().values()
        with open(os.environ["BATCHES"], "a") as file:
            print(json.dumps([position, batch["index"].tolist()]), file=file)
        return batch

def recorded(*args, **kwargs):
    loader = make_loader(*args, **kwargs)
    loader.__class__ = Recorded
    return loader

train.make_loader = recorded
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


class Cluster:
    """`echofm train` on several hosts; `hosts` gives one of them its own settings."""

    config, arguments = REPO / "configs" / "smoke.py", staticmethod(overrides)

    def __init__(self, count, folder, data, *, devices=1, missing=(), hosts=None, **changes):
        folder.mkdir(exist_ok=True)
        self.folder, self.workdir = folder, folder / "run"
        settings = {"optim__steps": STEPS, "train__checkpoint_every": 4} | changes
        address, self.processes, self.said = f"localhost:{free_port()}", {}, {}
        for index in set(range(count)) - set(missing):
            host = {"data": data, "workdir": "run", "cwd": folder} | (hosts or {}).get(index, {})
            env = os.environ | {
                "JAX_PLATFORMS": "cpu",
                "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count={devices}",
                "PYTHONPATH": str(REPO),
                "BATCHES": str(folder / f"batches-{index}"),
                "CLOCK": str(host.get("clock", 0)),
                "PAUSE": str(host.get("pause", 0)),
            }
            if count > 1:
                env |= {
                    "JAX_COORDINATOR_ADDRESS": address,
                    "JAX_NUM_PROCESSES": str(count),
                    "JAX_PROCESS_ID": str(index),
                }
            command = [
                sys.executable, "-W", "error", "-c", HOST,
                f"--config={self.config}", f"--workdir={host['workdir']}",
                *self.arguments(data__dir=host["data"], seed=host.get("seed", 0), **settings),
            ]  # fmt: skip
            self.processes[index] = subprocess.Popen(
                command, env=env, cwd=host["cwd"], stderr=subprocess.PIPE, text=True
            )
        # Read all along: a host must never wait for a full pipe.
        self.readers = [threading.Thread(target=self._read, args=(i,)) for i in self.processes]
        for reader in self.readers:
            reader.start()

    def _read(self, index: int) -> None:
        with self.processes[index].stderr as stream:
            self.said[index] = stream.read()

    def end(self, seconds: float = 240) -> dict[int, int]:
        """Wait until every process has ended; returns their exit statuses."""
        end = time.monotonic() + seconds
        try:
            for process in self.processes.values():
                process.wait(max(end - time.monotonic(), 0.1))
        finally:
            for process in self.processes.values():
                process.kill()
            for reader in self.readers:
                reader.join()
        return {index: process.returncode for index, process in self.processes.items()}

    def wait_for(self, step: int) -> None:
        """Wait until the run has logged a step."""
        end = time.monotonic() + 240
        while step not in losses(self.workdir):
            if time.monotonic() > end or any(p.poll() is not None for p in self.processes.values()):
                self.end(1)
                pytest.fail(str(self.said))
            time.sleep(0.05)

    def lines(self, index: int, start: str) -> list[str]:
        """What a host said that begins so."""
        return [line for line in self.said[index].splitlines() if line.startswith(start)]


def losses(workdir: Path) -> dict[int, list[float]]:
    rows = read_metrics(workdir / "metrics.jsonl")
    return {row["step"]: [row[name] for name in LOSSES] for row in rows if "loss" in row}


def held_out(workdir: Path) -> dict[int, float]:
    rows = read_metrics(workdir / "metrics.jsonl")
    return {row["step"]: row["val/loss"] for row in rows if "val/loss" in row}


def batches(folder: Path) -> dict[int, list[int]]:
    """Position after a batch → the records in it, sorted; hosts that made it twice must agree."""
    found: dict[int, list] = {}
    for file in folder.glob("batches-*"):
        of_host: dict[int, list] = {}
        for line in file.read_text().splitlines():
            position, index = json.loads(line)
            assert of_host.setdefault(position, index) == index
        for position, index in of_host.items():
            found.setdefault(position, []).extend(index)
    return {position: sorted(index) for position, index in sorted(found.items())}


def checkpoints(workdir: Path) -> list[int]:
    return sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())


def finish(cluster: Cluster) -> Cluster:
    statuses = cluster.end()
    assert set(statuses.values()) == {0}, cluster.said
    return cluster


@pytest.fixture(scope="module")
def absent(tmp_path_factory, tiny_data):
    """Two hosts of three; they wait for the third while the other tests run."""
    cluster = Cluster(3, tmp_path_factory.mktemp("absent"), tiny_data, missing=[1])
    yield cluster
    cluster.end(1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_data) -> Cluster:
    return finish(
        Cluster(1, tmp_path_factory.mktemp("one"), tiny_data, train__evaluate_every=STEPS)
    )


@pytest.fixture(scope="module")
def two(absent, tmp_path_factory, tiny_data) -> Cluster:
    """Two hosts, every kernel split over both; the clock of the second is 100 s slow."""
    settings = {"mesh__preset": "fsdp", "mesh__fsdp": 2, "train__evaluate_every": STEPS}
    folder, slow = tmp_path_factory.mktemp("two"), {1: {"clock": -100}}
    return finish(Cluster(2, folder, tiny_data, hosts=slow, **settings))


@pytest.fixture(scope="module")
def four(tmp_path_factory, tiny_data) -> Cluster:
    """Four hosts, every kernel split over two of them."""
    folder = tmp_path_factory.mktemp("four")
    return finish(Cluster(4, folder, tiny_data, mesh__preset="fsdp", mesh__fsdp=2))


@pytest.fixture(params=["two", pytest.param("four", marks=pytest.mark.slow)])
def cluster(request) -> Cluster:
    """Either of them."""
    return request.getfixturevalue(request.param)


def same_losses(cluster: Cluster, alone: Cluster) -> None:
    """Within 1e-5 at every step (the gradient's norm is not a loss: it may differ more)."""
    expected, found = losses(alone.workdir), losses(cluster.workdir)
    assert list(found) == list(expected) == list(range(1, STEPS + 1))
    terms = slice(LOSSES.index("grad_norm"))
    for step in expected:
        np.testing.assert_allclose(found[step][terms], expected[step][terms], rtol=0, atol=1e-5)


def test_two_hosts_train_as_one(alone, two):
    same_losses(two, alone)
    assert list(held_out(alone.workdir)) == [STEPS]
    assert held_out(two.workdir) == pytest.approx(held_out(alone.workdir), abs=1e-5)


@pytest.mark.slow
def test_four_hosts_train_as_one(alone, four):
    same_losses(four, alone)


@pytest.mark.slow
def test_hosts_that_share_their_clips_load_the_same(alone, tmp_path, tiny_data):
    """Four hosts, two of them for each half of the batch and of the model."""
    cluster = finish(Cluster(4, tmp_path, tiny_data, mesh__preset="fsdp_tp", mesh__tensor=2))
    same_losses(cluster, alone)
    first, second, third, fourth = ((tmp_path / f"batches-{i}").read_text() for i in range(4))
    assert first == second != third == fourth


def test_every_clip_comes_once_an_epoch_whatever_the_number_of_hosts(alone, cluster):
    assert batches(alone.folder) == batches(cluster.folder)
    stream = [index for batch in batches(cluster.folder).values() for index in batch]
    assert len(stream) == 4 * STEPS
    for epoch in range(len(stream) // RECORDS):
        assert sorted(stream[epoch * RECORDS : (epoch + 1) * RECORDS]) == list(range(RECORDS))


def test_hosts_introduce_themselves_and_one_tells_of_the_run(cluster):
    count = len(cluster.processes)
    for index in range(count):
        (line,) = cluster.lines(index, f"host {index} of ")
        said = f"host {index} of {count}: 1 of {count} devices (cpu), 1 slice(s), mesh 1 slice"
        assert line.startswith(said)
    assert len(cluster.lines(0, "step ")) == STEPS
    assert "not yet in the cache" in cluster.said[0]
    for index in range(1, count):
        assert len(cluster.said[index].splitlines()) <= 3, cluster.said[index]


def test_a_wrong_clock_is_named(two):
    (line,) = two.lines(0, "clock of host 1 (")
    assert re.search(r"is (99|10\d) s behind host 0's", line)
    assert "clock" not in two.said[1]


RESTORE = """
import sys
from pathlib import Path
import jax, numpy as np
from echofm_jax import config as configs, program, sharding
from echofm_jax.checkpoint import Checkpoints, load_params
workdir = Path(sys.argv[1])
config = configs.load(workdir)
config.data.batch_size = 24
params, step = load_params(workdir)
first = None
for devices, fsdp in [(1, 1), (2, 2), (3, 1), (4, 4), (8, 2)]:
    config.mesh.preset, config.mesh.fsdp = "fsdp", fsdp
    mesh = sharding.make_mesh(fsdp=fsdp, devices=jax.devices()[:devices])
    checkpoints = Checkpoints(workdir, every=1, keep=3)
    state, position = checkpoints.restore(program.build(config, mesh, 12).state)
    checkpoints.finish()
    assert {leaf.sharding.mesh for leaf in jax.tree.leaves(state)} == {mesh}
    state = jax.device_get(state)
    first = first or state
    jax.tree.map(np.testing.assert_array_equal, state, first)
    jax.tree.map(np.testing.assert_array_equal, state["params"], params)
print(step, list(position.values()))
"""


def test_a_checkpoint_of_several_hosts_is_read_on_any_other_devices(cluster):
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(REPO),
    }
    command = [sys.executable, "-c", RESTORE, str(cluster.workdir)]
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    step, clips = result.stdout.split(maxsplit=1)
    assert (step, ast.literal_eval(clips)[0]) == (str(STEPS), 4 * STEPS), result.stderr


@pytest.mark.slow
def test_lost_hosts_and_preemption_leave_no_trace_in_the_run(two, tmp_path, tiny_data):
    slow = {0: {"pause": 0.4}}  # seconds that its data take; it is told at the end

    def again() -> Cluster:
        return Cluster(2, tmp_path, tiny_data, hosts=slow)

    # One host is told to stop: all save the same step.
    cluster = again()
    cluster.wait_for(3)
    cluster.processes[1].send_signal(signal.SIGTERM)
    assert cluster.end() == {0: TryAgain.status, 1: TryAgain.status}, cluster.said
    stopped = checkpoints(cluster.workdir)[-1]
    assert 3 <= stopped < STEPS and f"stopped at step {stopped}" in cluster.said[0]
    # A host is lost: the other says which.
    cluster = again()
    cluster.wait_for(stopped + 2)
    cluster.processes[1].kill()
    assert cluster.end(60) == {0: TryAgain.status, 1: -signal.SIGKILL}, cluster.said
    (line,) = cluster.lines(0, "echofm: ")
    assert line.startswith("echofm: host 1 (") and "is gone: start the same command" in line
    assert f"starting from step {stopped}" in cluster.said[0]
    # So is the one that coordinates.
    cluster = again()
    cluster.wait_for(min(stopped + 4, STEPS - 2))
    cluster.processes[0].kill()
    assert cluster.end(60) == {0: -signal.SIGKILL, 1: TryAgain.status}, cluster.said
    (line,) = cluster.lines(1, "echofm: ")
    assert line.startswith("echofm: host 0 (") and "is gone: start the same command" in line
    # All hosts pass over a damaged checkpoint, and nothing that happened has changed a bit.
    *_, before, newest = checkpoints(cluster.workdir)
    damage(cluster.workdir, newest)
    cluster = finish(again())
    assert "found in the cache" in cluster.said[0]
    (line, *_) = cluster.lines(0, "host 0 (")
    assert "holds the others up: waiting for data" in line
    assert f"starting from step {before}" in cluster.said[0]
    assert (cluster.workdir / "checkpoints" / f"damaged-{newest}").is_dir()
    assert losses(cluster.workdir) == losses(two.workdir)
    assert batches(cluster.folder) == batches(two.folder)


def test_a_host_without_data_ends_all(tmp_path, tiny_data):
    cluster = Cluster(2, tmp_path, tiny_data, hosts={1: {"data": tmp_path / "nowhere"}})
    assert cluster.end() == {0: InputError.status, 1: InputError.status}, cluster.said
    (line,) = cluster.lines(0, "echofm: ")
    assert line.startswith("echofm: host 1 (") and "no data set in" in line
    assert len(cluster.lines(1, "echofm: no data set in")) == 1
    assert not cluster.workdir.exists()


@pytest.mark.slow
def test_hosts_of_different_configs_are_refused(tmp_path, tiny_data):
    cluster = Cluster(2, tmp_path, tiny_data, hosts={1: {"seed": 1}})
    assert cluster.end() == {0: InputError.status, 1: InputError.status}, cluster.said
    for index in (0, 1):
        (line,) = cluster.lines(index, "echofm: ")
        assert "host 1 has another config or data set than host 0" in line
    assert not cluster.workdir.exists()


def test_a_workdir_that_hosts_do_not_share_is_refused(tmp_path, tiny_data):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cluster = Cluster(2, tmp_path, tiny_data, hosts={1: {"cwd": elsewhere}})
    assert cluster.end() == {0: InputError.status, 1: InputError.status}, cluster.said
    for index in (0, 1):
        (line,) = cluster.lines(index, "echofm: ")
        assert "host 1: workdir run is not the folder that host 0 sees" in line
    assert not cluster.workdir.exists() and not list(elsewhere.iterdir())


def test_a_missing_host_is_named(absent):
    assert absent.end() == {0: TryAgain.status, 2: TryAgain.status}, absent.said
    for index in (0, 2):
        (line,) = absent.said[index].strip().splitlines()
        assert line.startswith("echofm train: host 1 of 3 did not come within 50 s")
    assert not absent.workdir.exists()
