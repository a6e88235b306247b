"""jobset.sh and xpk.sh for GKE, slurm.sh for GPU nodes."""

import re
from collections.abc import Iterator

import kubernetes_validate
import pytest
import yaml
from conftest import REPO
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet
from launch_world import TRAINING, World


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.finish()


def expand(text: str) -> str:
    """What Kubernetes makes of a command or a value when no variable has a name in it."""
    return re.sub(r"\$\$|\$\([^)]*\)", lambda m: "$" if m[0] == "$$" else m[0], text)


def manifest(world: World, *arguments) -> dict:
    result = world.launch("jobset", *arguments)
    assert result.returncode == 0, result.stderr
    return yaml.safe_load(world.calls()[-1]["stdin"])


# ---- GKE ----------------------------------------------------------------------------------------


def test_manifest_fits_the_published_schemas(world):
    for arguments in [
        (),
        ("--libtpu-flags=async_collectives,abort_on_hang", "--max-restarts=0"),
        ("--claim=null:/data", "--workdir=/data/runs", "--compile-cache=none", "--port=8476"),
        ("--topology=v6e:2x4", "--slices=1"),
    ]:
        workdir = [] if any(a.startswith("--workdir") for a in arguments) else [TRAINING[2]]
        document = manifest(world, *TRAINING[:2], *workdir, *arguments)
        # The models drop what they do not know: equal means that every field is a known one.
        assert JobsetV1alpha2JobSet.from_dict(document).to_dict() == document
        for job in document["spec"]["replicatedJobs"]:
            whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}}
            kubernetes_validate.validate(whole | job["template"], "1.33", strict=True)


def test_manifest_says_what_was_asked(world):
    document = manifest(
        world, *TRAINING, "--grace-period=450", "--shared-memory=32Gi", "--max-restarts=9"
    )
    (job,) = document["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert document["spec"]["failurePolicy"]["maxRestarts"] == 9
    assert (job["replicas"], spec["parallelism"], spec["completions"]) == (2, 64, 64)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "16x16",
        "cloud.google.com/gke-spot": "true",
    }
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["terminationGracePeriodSeconds"] == 450
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "32Gi"}
    assert container["volumeMounts"][0]["mountPath"] == "/dev/shm"
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [1, 2, 130]
    (action,) = document["spec"]["failurePolicy"]["rules"]
    assert (action["action"], action["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert rule["onExitCodes"]["containerName"] == container["name"]
    command = [expand(word) for word in container["command"]]
    assert command == ["launch/mount_buckets.sh", "b", "--", "echofm", "train", *TRAINING]
    environment = {entry["name"]: expand(entry["value"]) for entry in container["env"]}
    assert environment == {
        "JAX_COORDINATOR_PORT": "8476",
        "JAX_COMPILATION_CACHE_DIR": "/gcs/b/runs/compile-cache",
    }


def test_xpk_restarts_by_exit_status_and_hands_the_signal_on(world):
    result = world.launch("xpk", *TRAINING, "--slices=2", "--grace-period=450")
    assert result.returncode == 0, result.stderr
    (call,) = [entry["call"] for entry in world.calls()]
    assert call[:3] == ["xpk", "workload", "create"]
    given = dict(word[2:].split("=", 1) for word in call[3:])
    assert given["tpu-type"] == "v5p-512" and given["num-slices"] == "2"
    assert given["restart-on-exit-codes"] == "3-126"
    assert given["termination-grace-period-seconds"] == "450"
    assert given["command"].startswith("exec launch/mount_buckets.sh b -- echofm train ")
    # Run as xpk's container runs it.
    path = f"{world.root}/.venv/bin:{world.environment['PATH']}"
    script = f"cd {world.root}; {expand(given['command'])}"
    place = {"ECHOFM_BUCKETS": str(world.folder / "gcs"), "HOSTNAME": "pod", "PATH": path}
    assert world.shell(["bash", "-c", script], **place).returncode == 0
    assert world.runs("pod")[0]["argv"] == ["train", *TRAINING]
    assert (world.folder / "gcs" / "b" / "mounted").exists()


def test_a_bucket_that_cannot_be_mounted_ends_it(world):
    (world.folder / "no_bucket").touch()
    place = {"ECHOFM_BUCKETS": str(world.folder / "gcs"), "MOUNT_PAUSE": "0"}
    result = world.shell([REPO / "launch" / "mount_buckets.sh", "b", "--", "echo", "run"], **place)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr == "mount_buckets.sh: cannot mount gs://b, see above\n"


# ---- SLURM --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan, attempts, status",
    [
        (["signalled", {"*": 75, "1": 134}, {"*": 75, "1": "killed"}, 0], 4, 0),
        ([{"*": 75, "1": 1}], 1, 1),
        ([2], 1, 2),
        ([130], 1, 130),
        ([75], 4, 75),
    ],
)
def test_slurm_queues_a_run_again_until_it_is_done(plan, attempts, status, world):
    world.plan(*plan)
    result = world.launch("slurm", *TRAINING, "--max-restarts=3", "--process-per=node")
    assert result.returncode == status
    runs = world.runs("0")
    assert len(runs) == len(world.runs("1")) == attempts
    assert all(run["argv"] == ["train", *TRAINING] for run in runs)
    assert all(run["env"]["JAX_LOCAL_DEVICE_IDS"] == "0,1,2,3,4,5,6,7" for run in runs)
    requeues = [e for e in world.calls() if e["call"][0] == "scontrol"]
    assert len(requeues) == attempts - 1
    assert not list((world.root / "runs").iterdir())
    if plan[0] == "signalled":  # the shell around the command waited for it
        assert result.stderr.startswith("slurm_job.sh: status 75: back into the queue")


def test_slurm_itself_deals_with_a_job_that_it_takes_away(world):
    world.plan(75)
    (world.folder / "job_is_preempted").touch()
    assert world.launch("slurm", *TRAINING).returncode == 75
    assert len(world.runs("0")) == 1
    assert not [entry for entry in world.calls() if entry["call"][0] == "scontrol"]
