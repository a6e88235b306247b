"""tpu_vm.sh and queued_resource.sh on virtual slices: every host is a folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from launch_world import TRAINING, WHERE, World

from echofm_jax.libtpu_flags import flag_sets


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.finish()


def test_every_host_of_a_tpu_vm_runs_the_same_command(world):
    result = world.launch(
        "tpu_vm", *TRAINING, "--port=8500", "--libtpu-flags=vmem_96mib", "--config.x=gs://other/y"
    )
    assert result.returncode == 0, result.stderr
    assert "step 1" in result.stdout  # the first host's log
    assert "gcloud compute tpus tpu-vm delete echo" in result.stderr
    for worker in range(4):
        (run,) = world.runs(f"echo-{worker}")
        assert run["argv"] == ["train", *TRAINING, "--config.x=gs://other/y"]
        assert run["cwd"].endswith(f"slices/echo/{worker}/echofm/code")
        for bucket in ("b", "other"):
            assert (world.folder / f"slices/echo/{worker}/gcs/{bucket}/mounted").exists()
        assert run["env"] == {
            "JAX_COORDINATOR_PORT": "8500",
            "JAX_COMPILATION_CACHE_DIR": "/gcs/b/runs/compile-cache",
            "LIBTPU_INIT_ARGS": " ".join(flag_sets()["vmem_96mib"]),
        }


def test_the_preemption_loop(world):
    # Stopped by a signal, killed, taken away in the middle, then finished.
    taken = {"*": 75, "echo-1-0": "preempted"}
    world.plan({"*": 75, "echo-1-0": "killed"}, 134, taken, 0)
    world.queue("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    result = world.launch("queued_resource", *TRAINING)
    assert result.returncode == 0, result.stderr
    start = ["start echo-0", "start echo-1"]
    again = ["delete", "create", *start]
    assert world.verbs() == ["create", *start, *start, *start, *again, "delete"]
    assert "slices: LOST" in result.stderr and "restart 2" in result.stderr
    runs = [*world.runs("echo-0-0"), *world.runs("echo-1-0")]
    assert len(runs) == 8 and all(run["argv"] == runs[0]["argv"] for run in runs)
    create = next(entry["call"] for entry in world.calls() if entry["call"][4] == "create")
    assert {"--spot", "--node-count=2", "--node-prefix=echo"} < set(create)
    assert "--accelerator-type=v5litepod-8" in create


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_final_statuses_end_it_whatever_the_other_hosts_say(status, world):
    world.plan({"*": status and 75, "echo-1-0": status})
    result = world.launch("queued_resource", *TRAINING)
    assert result.returncode == status
    assert world.verbs() == ["create", "start echo-0", "start echo-1", "delete"]
    assert ("echo-1-0: step 1" in result.stderr) is (status != 0)  # the failing host's log


def test_restarts_and_failing_requests_have_an_end(world):
    world.plan(75)
    result = world.launch("queued_resource", *TRAINING, "--slices=1", "--max-restarts=1", "--keep")
    assert result.returncode == 75
    assert world.verbs() == ["create", "start echo", "start echo"]
    world.forget()
    world.queue("FAILED")
    result = world.launch("queued_resource", *TRAINING)
    assert result.returncode == 1
    assert "the request failed: gcloud compute tpus queued-resources describe" in result.stderr


def test_a_run_outlives_its_connection_and_is_not_started_twice(world):
    world.plan("long")
    (world.folder / "connection_breaks").touch()
    result = world.launch("queued_resource", *TRAINING)
    assert result.returncode == 0, result.stderr
    assert len(world.runs("echo-0-0")) == len(world.runs("echo-1-0")) == 1
    follows = [e for e in world.calls() if e["call"][-1].endswith("follow")]
    assert len(follows) == 2 and "step 1" in result.stdout


def watch(world: World, follows: int) -> subprocess.Popen:
    """The launcher in a session of its own, once it follows a log for the `follows`th time."""
    launcher = world.root / "launch" / "queued_resource.sh"
    # A shell that was started with Ctrl-C ignored, as background jobs are, cannot trap it.
    heed = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    watching = subprocess.Popen(
        [sys.executable, "-c", heed, launcher, "--name=echo", "--poll=0", *TRAINING,
         *WHERE["queued_resource"]],
        env=world.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while sum(entry["call"][-1].endswith("follow") for entry in world.calls()) < follows:
        assert watching.poll() is None
        time.sleep(0.05)
    return watching


def test_ctrl_c_ends_the_watching_and_the_same_command_takes_it_up_again(world):
    world.plan("long")
    watching = watch(world, 1)
    os.killpg(watching.pid, signal.SIGINT)
    assert "the run goes on" in watching.communicate(timeout=300)[1]
    assert watching.returncode == 130
    other = world.launch("queued_resource", *TRAINING, "--config.seed=1")
    assert other.returncode == 2 and "another run is alive here" in other.stderr
    watching = watch(world, 2)
    (world.folder / "connection_is_back").touch()
    said = watching.communicate(timeout=300)[1]
    assert watching.returncode == 0, said
    assert world.verbs().count("create") == world.verbs().count("delete") == 1
    assert len(world.runs("echo-0-0")) == len(world.runs("echo-1-0")) == 1
