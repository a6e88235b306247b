"""The launchers: what they print, what they refuse, and the files they come with."""

import mmap
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import REPO
from launch_world import LAUNCHED, LAUNCHERS, TRAINING, World

from echofm_jax.libtpu_flags import flag_sets


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.finish()


# ---- what is printed is what is run -------------------------------------------------------------


def once(calls: Iterable) -> list:
    """Calls in their order, each once: how often a run is asked for its status depends on time."""
    return list(dict.fromkeys(tuple(call) for call in calls))


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
        assert once(typed) == once(entry["call"] for entry in calls)
    world.forget()
    pasted = world.shell(
        ["bash", "-e", "-c", dry.stdout], HOSTS_PER_SLICE="1" if launcher != "tpu_vm" else "4"
    )
    assert pasted.returncode == 0, pasted.stderr
    again = [entry for entry in world.calls() if entry["call"][0] in LAUNCHED]
    assert once(map(repr, again)) == once(map(repr, calls))
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
