"""The launchers, against recording stand-ins of the clouds' commands (stand_ins.py)."""

import json
import mmap
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import REPO
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

from echofm_jax.libtpu_flags import flag_sets

STAND_INS = (REPO / "tests" / "stand_ins.py").read_text()
LAUNCHED = ("gcloud", "kubectl", "xpk", "sbatch")
PROGRAMS = (*LAUNCHED, "srun", "scontrol", "gcsfuse", "mountpoint")
LAUNCHERS = ("tpu_vm", "queued_resource", "xpk", "jobset", "slurm")
# What a shell, YAML or Kubernetes would change if one quote were missing.
ODD = '--config.data.dir=gs://b/it\'s $HOME "x" \\ $(touch pwned) `id` * $$ #: é'
TRAINING = ["--config=configs/vit_l.py:paper", ODD, "--workdir=gs://b/runs/vit_l"]
WHERE = {
    "tpu_vm": ["--zone=z", "--topology=v5e:4x4"],
    "queued_resource": ["--zone=z", "--topology=v5e:2x4", "--slices=2", "--spot"],
    "xpk": ["--zone=z", "--cluster=c", "--image=r/echofm:tpu", "--topology=v5p:4x8x8"],
    "jobset": ["--image=r/echofm:tpu", "--topology=v5e:16x16", "--slices=2", "--spot"],
    "slurm": ["--nodes=4", "--extra=--partition=gpu"],
}

# Stands for the training program on a virtual host or node: writes down what it was given, and
# ends with this attempt's status for it.
ECHOFM = """#!{python} -IS
import json, os, pathlib, signal, sys, time
here = pathlib.Path(os.environ["STAND_INS"])
task = os.environ.get("SLURM_PROCID") or os.environ["HOSTNAME"]
log = here / f"runs.{{task}}.jsonl"
names = ("JAX_COORDINATOR_PORT", "JAX_COMPILATION_CACHE_DIR", "LIBTPU_INIT_ARGS",
         "JAX_LOCAL_DEVICE_IDS")
with log.open("a") as file:
    given = {{"argv": sys.argv[1:], "cwd": os.getcwd(),
             "env": {{name: os.environ[name] for name in names if name in os.environ}}}}
    file.write(json.dumps(given) + "\\n")
attempt = len(log.read_text().splitlines()) - 1
plan = json.loads((here / "plan.json").read_text())
status = plan[min(attempt, len(plan) - 1)]
status = status.get(task, status["*"]) if isinstance(status, dict) else status
print("step 1", flush=True)
if status == "preempted":
    (here / "slices" / task.rsplit("-", 1)[0] / "preempted").touch()
elif status == "long":
    while not (here / "connection_is_back").exists():
        time.sleep(0.02)
    status = 0
elif status == "signalled":
    os.kill(os.getppid(), signal.SIGTERM)  # as SLURM signals all of a step
    time.sleep(0.2)
    status = 75
elif status == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(143 if status == "preempted" else status)
"""
UV = """#!/usr/bin/env bash
case $1 in
  venv)
    mkdir -p "${*: -1}/bin"
    cp "$STAND_INS/echofm" "${*: -1}/bin/python"
    cp "$STAND_INS/echofm" "${*: -1}/bin/echofm"
    ;;
esac
"""


class World:
    """A checkout, a PATH of stand-ins, and what they were asked."""

    def __init__(self, folder: Path):
        self.folder, self.root = folder, folder / "checkout"
        for name in ("launch", "configs"):
            shutil.copytree(REPO / name, self.root / name)
        for name in ("echofm_jax", "data_pipelines"):  # are only copied on
            (self.root / name).mkdir()
        for name in ("setup.py", "pyproject.toml", "README.md"):
            shutil.copy(REPO / name, self.root)
        bin_dir = folder / "bin"
        bin_dir.mkdir()
        for name in PROGRAMS:
            (bin_dir / name).write_text(f"#!{sys.executable} -IS\n{STAND_INS}")
            (bin_dir / name).chmod(0o755)
        for path, text in [
            (folder / "echofm", ECHOFM.format(python=sys.executable)),
            (folder / "uv", UV),
            (self.root / ".venv" / "bin" / "echofm", ECHOFM.format(python=sys.executable)),
        ]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STAND_INS": str(folder),
            "HOSTS_PER_SLICE": "1",
        }
        self.plan(0)
        self.queue("ACTIVE")

    def plan(self, *statuses) -> None:
        """How the training program ends, attempt by attempt; a dict says it host by host."""
        (self.folder / "plan.json").write_text(json.dumps(statuses))

    def queue(self, *states: str) -> None:
        """What the queue answers after each request, question by question."""
        (self.folder / "queue_states").write_text(" ".join(states))

    def launch(self, launcher: str, *arguments, where=None) -> subprocess.CompletedProcess:
        hosts = 4 if "--topology=v5e:4x4" in (where or WHERE[launcher]) else 1
        return self.shell(
            [
                self.root / "launch" / f"{launcher}.sh",
                "--name=echo",
                *(where or WHERE[launcher]),
                *(["--poll=0"] if launcher in ("tpu_vm", "queued_resource") else []),
                *arguments,
            ],
            HOSTS_PER_SLICE=str(hosts),
        )

    def shell(self, command, **environment) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment | environment,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def calls(self) -> list[dict]:
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def forget(self) -> None:
        (self.folder / "calls.jsonl").unlink()
        shutil.rmtree(self.folder / "slices", ignore_errors=True)

    def runs(self, task: str) -> list[dict]:
        """Every start of the training program on one host."""
        log = self.folder / f"runs.{task}.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def verbs(self) -> list[str]:
        """What was done to the slices, without questions and files."""
        done = []
        for call in (entry["call"] for entry in self.calls()):
            if call[0] != "gcloud":
                continue
            if call[4] in ("create", "delete"):
                done.append(call[4])
            elif call[4] == "ssh" and " start " in call[-1]:
                done.append("start " + call[5])
        return done


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    (tmp_path / "connection_is_back").touch()  # ends runs that a failed test left


def expand(text: str) -> str:
    """What Kubernetes makes of a command or a value when no variable has a name in it."""
    return re.sub(r"\$\$|\$\([^)]*\)", lambda m: "$" if m[0] == "$$" else m[0], text)


def manifest(world: World, *arguments) -> dict:
    result = world.launch("jobset", *arguments)
    assert result.returncode == 0, result.stderr
    return yaml.safe_load(world.calls()[-1]["stdin"])


# ---- what is printed is what is run -------------------------------------------------------------


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_dry_run_prints_exactly_what_is_run(launcher, world):
    arguments = [*TRAINING, "--compile-cache=gs://b/cache", "--extra=--description=two words"]
    dry = world.launch(launcher, "--dry-run", *arguments)
    assert dry.returncode == 0, dry.stderr
    assert not world.calls() and not (world.root / "build").exists()
    real = world.launch(launcher, *arguments)
    assert real.returncode == 0, real.stderr
    calls = [entry for entry in world.calls() if entry["call"][0] in LAUNCHED]
    if launcher != "jobset":  # its manifest is a here-document
        printed = map(shlex.split, dry.stdout.splitlines())
        typed = [words for words in printed if words[0] in LAUNCHED]
        assert typed == [entry["call"] for entry in calls]
    world.forget()
    pasted = world.shell(
        ["bash", "-e", "-c", dry.stdout], HOSTS_PER_SLICE="1" if launcher != "tpu_vm" else "4"
    )
    assert pasted.returncode == 0, pasted.stderr
    assert [entry for entry in world.calls() if entry["call"][0] in LAUNCHED] == calls
    assert not list(world.folder.rglob("pwned"))


def test_help_names_the_flag_sets_and_the_launcher_own_flags(world):
    for launcher in LAUNCHERS:
        result = world.launch(launcher, "--help")
        assert result.returncode == 0
        assert "--dry-run" in result.stdout and f"launch/{launcher}.sh --name=" in result.stdout
        assert all(name in result.stdout for name in flag_sets()) is (launcher != "slurm")


# ---- what is refused ----------------------------------------------------------------------------

V16 = "--topology=v5e:4x4"


@pytest.mark.parametrize(
    "launcher, arguments, said",
    [
        ("tpu_vm", ["--config=configs/vit_l.py"], "no workdir"),
        ("tpu_vm", ["--workdir=gs://b/r"], "no config"),
        ("tpu_vm", ["--config=configs/none.py", "--workdir=gs://b/r"], "no config configs/none.py"),
        ("tpu_vm", [*TRAINING, "--config=configs/vit_b.py"], "two configs"),
        ("tpu_vm", [*TRAINING[:2], "--workdir=runs/a"], "4 hosts cannot share"),
        ("queued_resource", [*TRAINING[:2], "--workdir=/data/a"], "2 hosts cannot share"),
        ("queued_resource", [*TRAINING[:2], "--workdir=a", "--slices=1"], "lost with the machine"),
        ("jobset", [*TRAINING[:2], "--workdir=/b/a", "--claim=c:/data"], "or mount a volume there"),
        ("slurm", [*TRAINING[:2], "--workdir=runs/a"], "4 hosts cannot share"),
        ("tpu_vm", [*TRAINING, "--topology=v5e:3x3"], "unknown topology 'v5e:3x3': v5e:1x1"),
        ("jobset", [*TRAINING, "--topology=v5litepod-9"], "unknown topology 'v5litepod-9'"),
        ("xpk", [*TRAINING, "--libtpu-flags=fast"], "unknown set of libtpu flags 'fast': async_"),
        ("xpk", [*TRAINING, "--libtpu-flags=v5e_fused_gathers"], "on v5e, not on v5p"),
        ("slurm", [*TRAINING, "--libtpu-flags=vmem_96mib"], "unknown option --libtpu-flags"),
        ("xpk", [*TRAINING, "--slices=two"], "--slices=two is not a number"),
        ("xpk", [*TRAINING, "--port=80"], "--port=80 is not a number from 1024"),
        ("jobset", [*TRAINING, "--grace-period=0"], "--grace-period=0 is not"),
        ("jobset", [*TRAINING, "--shared-memory=16"], "not a size"),
        ("jobset", [*TRAINING, "--config.seed"], "has no value"),
        ("slurm", [*TRAINING, "--config.seed=1\n2"], "line break"),
        ("slurm", [*TRAINING, "--process-per=rack"], "neither gpu nor node"),
        ("slurm", [*TRAINING, "more"], "unexpected argument 'more'"),
        ("tpu_vm", [*TRAINING, "--preemptible"], "unknown option --preemptible"),
        ("tpu_vm", [*TRAINING, "--name=Echo"], "is not a name"),
        ("tpu_vm", [*TRAINING, "--zone="], "--zone needs a value"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_before_anything_is_contacted(launcher, arguments, said, world):
    result = world.launch(launcher, *arguments)
    assert result.returncode == 2
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert not world.calls() and not result.stdout


@pytest.mark.parametrize("launcher", ["tpu_vm", "queued_resource", "slurm"])
def test_a_shared_workdir_is_taken_at_its_word(launcher, world):
    arguments = [*TRAINING[:2], "--workdir=/mnt/shared/a", "--shared-workdir", "--dry-run"]
    assert world.launch(launcher, *arguments).returncode == 0


# ---- TPU VMs ------------------------------------------------------------------------------------


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
    watching = subprocess.Popen(
        [launcher, "--name=echo", "--poll=0", *TRAINING, *WHERE["queued_resource"]],
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


# ---- files --------------------------------------------------------------------------------------


def test_topologies_name_their_chips():
    table = (REPO / "launch" / "topologies.sh").read_text()
    rows = re.findall(r"^(v\w+):([\dx]+) +(\w+)-(\d+) +(\d+)$", table, re.MULTILINE)
    assert len(rows) == 28
    for generation, shape, family, number, chips_per_host in rows:
        chips = eval(shape.replace("x", "*"))
        assert family == {"v5e": "v5litepod"}.get(generation, generation)
        assert int(number) == (2 * chips if generation == "v5p" else chips)
        assert chips % int(chips_per_host) == 0


def test_libtpu_knows_every_flag():
    if (package := find_spec("libtpu")) is None:
        pytest.skip("libtpu is not installed")
    library = Path(package.origin).with_name("libtpu.so")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as text:
        for flags in flag_sets().values():
            assert flags
            for flag in flags:
                name = re.fullmatch(r"--(\w+)=\w+", flag)[1]
                assert text.find(b"\0" + name.encode() + b"\0") >= 0, name


def test_image_is_built_from_what_is_here():
    text = (REPO / "launch" / "Dockerfile").read_text()
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((REPO / source).exists() for source in sources.split())
    extras = set(re.findall(r'^ +"(\w+)": \[', (REPO / "setup.py").read_text(), re.MULTILINE))
    assert "ACCELERATOR=tpu" in text and "ACCELERATOR=cuda12" in text
    assert {"tpu", "cuda12"} <= extras and '".[${ACCELERATOR}]"' in text


def test_shellcheck_is_content():
    scripts = [*sorted((REPO / "launch").glob("*.sh")), REPO / "tests" / "run.sh"]
    scripts = [path for path in scripts if path.read_text().startswith("#!")]
    check = [Path(sys.executable).with_name("shellcheck"), "-x", "-P", REPO / "launch", *scripts]
    result = subprocess.run(check, cwd=REPO, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
