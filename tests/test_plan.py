"""Plans of a tiny model: every figure, what does not fit, and what is refused."""

import json
import re

import pytest
from conftest import REPO, overrides

from echofm_jax import cli, plan
from echofm_jax.config import parse
from echofm_jax.planning import aot, search, table, topology

pytest.importorskip("libtpu", reason=aot.REASON)
CONFIG = f"--config={REPO / 'configs' / 'smoke.py'}"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """What is compiled here is kept here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def run(capsys, *arguments: str, **changes) -> tuple[str, str]:
    """Standard output and error of a plan of the tiny model."""
    assert cli.run("plan", [CONFIG, *overrides(**changes), *arguments]) == 0
    return capsys.readouterr()


def test_one_slice_and_the_same_again(capsys, tmp_path):
    loader = tmp_path / "loader.json"
    loader.write_text('one_core 100\n{"one_core": 100.0, "settings": {"data_dir": "somewhere"}}\n')
    wanted = ("--topology=v5e:2x2", "--no-search", f"--loader-json={loader}", "--instructions=3")
    out, progress = run(capsys, *wanted, "--json")
    assert "compiled in" in progress
    found = json.loads(out)
    text, progress = run(capsys, *wanted)
    assert "known already" in progress
    # The table is made of the JSON's figures and of nothing else.
    found["compiler"]["cached"] = True
    assert text.strip() == table.describe(found)

    hbm = found["hbm"]
    parameters = hbm["parameters"]
    assert hbm["fits"] and hbm["moments"] == 2 * parameters + 8  # and two counts
    parts = sum(hbm[kind] for kind in table.NAMES if kind in hbm)
    assert parts == hbm["total"] < hbm["available"]
    reduced = sum(r["bytes"] for r in found["collectives"] if r["kind"] == "all-reduce")
    assert reduced > parameters / 2 and {r["axes"] for r in found["collectives"]} == {"data"}
    fastest, slowest = found["time"]["step"]
    assert 0 < max(found["bounds"][name] for name in ("compute", "hbm", "ici")) <= fastest < slowest
    assert found["mfu"][1] == pytest.approx(found["bounds"]["compute"] / fastest)
    assert found["hours"][1] == pytest.approx(slowest * found["steps"] / 3600)
    assert found["chip_hours"][1] == 4 * found["hours"][1]
    needed = found["input"]
    assert needed["clip_bytes"] == 16 * 32 * 32 + 4 * 4  # frames, and noise of four positions
    assert needed["clips_per_s_host"][1] == pytest.approx(4 / fastest)
    assert needed["cores_needed"][1] == pytest.approx(4 / fastest / 100)
    assert len(found["instructions"]) == 3


def test_two_slices_reduce_over_both_networks(capsys):
    out, _ = run(
        capsys, "--topology=v5e:2x2", "--slices=2", "--per-chip=1", "--no-search", "--json"
    )
    found = json.loads(out)
    assert found["mesh"]["slice"] == 2 and found["batch_size"] == 8
    between = [row for row in found["collectives"] if row["network"] == "dcn"]
    assert between and all(row["axes"] == "slice" for row in between)
    assert found["bounds"]["dcn"] > 0
    assert "all-reduce over slice (dcn)" in table.describe(found)


def test_out_of_memory_is_an_answer(capsys):
    """20 billion parameters on one chip: 75 GiB, three times with the moments."""
    large = {"model__width": 8192, "model__depth": 24}
    out, progress = run(capsys, "--topology=v5e:2x2", "--no-search", "--json", **large)
    found = json.loads(out)
    hbm = found["hbm"]
    assert not hbm["fits"] and hbm["over"] == hbm["total"] - hbm["available"]
    assert hbm["total"] > hbm["parameters"] + hbm["moments"] > 225 * topology.GIB
    assert "does not fit" in progress and "DOES NOT FIT" in table.describe(found)
    assert "does not fit" in table.compare([found])
    assert "does not fit" in table.weak_scaling([found])


def memory(base: int, clip: int, room: int):
    """A compiler of steps that need `base` + `clip` × the clips of a chip, of four."""

    def compile_step(config) -> aot.Compiled:
        state = {"parameters": base // 2, "moments": 0, "batch": 0}
        total = base + clip * config.data.batch_size // 4
        size = {"temporaries": total} if total <= room else {"needed": total}
        return aot.Compiled(mesh={}, state=state, gradients=base // 2, **size)

    return compile_step


@pytest.mark.parametrize("start", [1, 8, 61, 400])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_largest_batch_is_found_from_below_and_above(start, accumulate):
    four = topology.parse("v5e:2x2")
    room = four.chip.hbm_bytes
    compile_step = memory(room // 3, room // 100, room)  # 66 clips fit
    config = parse([f"--config.optim.accumulate={accumulate}"], CONFIG.removeprefix("--config="))
    config = search.with_batch(config, start * accumulate, four)
    first = compile_step(config)
    found = search.largest_batch(config, four, first, compile_step)
    fits, fails = found["clips_per_chip"], found["does_not_fit"]
    assert fits <= 66 < fails and fails - fits <= max(fails / 8, accumulate)
    assert fits % accumulate == fails % accumulate == 0
    assert len(found["tried"]) <= 7


def test_nothing_fits_a_model_that_is_too_large():
    four = topology.parse("v5e:2x2")
    room = four.chip.hbm_bytes
    compile_step = memory(2 * room, room // 100, room)
    config = search.with_batch(parse([], CONFIG.removeprefix("--config=")), 2, four)
    found = search.largest_batch(config, four, compile_step(config), compile_step)
    assert found["clips_per_chip"] == 0
    assert table.largest(found) == "no batch fits: 1 clips a chip is too much already"


def test_remedies_are_tried_one_by_one_then_together():
    four = topology.parse("v5e:2x2")
    room = four.chip.hbm_bytes
    config = parse(["--config.model.remat=none"], CONFIG.removeprefix("--config="))
    tried = list(search.remedies(config, four, memory(2 * room, 1, room)))
    changes = [change for change, _ in tried]
    assert changes[0] == {"model.remat": "full"}
    assert {"mesh.preset": "fsdp", "mesh.fsdp": 4} in changes
    assert changes[-1]["mesh.fsdp"] == 4 and changes[-1]["model.remat"] == "full"


def test_weak_scaling_grows_to_the_largest_slice_and_several():
    names = [str(t) for t in plan.growing(topology.parse("v5e:2x2"))]
    assert names == ["v5e:2x2", "v5e:4x4", "v5e:8x8", "v5e:16x16",
                     "2 × v5e:16x16", "4 × v5e:16x16"]  # fmt: skip
    names = [str(t) for t in plan.growing(topology.parse("v5p:8x8x8"))]
    assert names[0] == "v5p:2x2x1" and names[-1] == "4 × v5p:16x16x24"


def test_flags_of_the_environment_and_of_named_sets(monkeypatch):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--a=1")
    assert plan.chosen_flags("") == "--a=1"
    assert plan.chosen_flags("vmem_96mib") == "--a=1 --xla_tpu_scoped_vmem_limit_kib=98304"


def test_a_flag_that_libtpu_does_not_know(capsys, monkeypatch):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_nonsense=1")
    assert cli.run("plan", [CONFIG, *overrides(), "--topology=v5e:2x2"]) == 2
    assert "knows no flag --xla_tpu_nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v5e:3x3"], r"v5e comes as 1x1, 2x2"),
        ([], r"give --topology=GENERATION:SHAPE"),
        (["--topology=v5e:2x2", "--config.data.batch_size=6"], r"data.batch_size=6 .* not\s+divis"),
        (
            ["--topology=v5e:2x2", "--config.mesh.preset=fsdp", "--config.mesh.fsdp=3"],
            r"mesh.fsdp=3 .*does not divide",
        ),
        (["--topology=v5e:2x2", "--tpu=4"], r"unknown argument --tpu=4"),
        (["--topology=v5e:2x2", "--loader-json=/nowhere"], r"--loader-json=/nowhere is not"),
        (["--topology=v5e:2x2", "--libtpu-flags=vmem"], r"did you mean 'vmem_96mib'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, arguments, message):
    assert cli.run("plan", [CONFIG, *overrides(), *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error.splitlines()[-1])
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_step_that_does_not_fit_gets_remedies(capsys):
    """2 billion parameters: too many for a chip, and split over four they are not."""
    out, _ = run(capsys, "--topology=v5e:2x2", "--json", model__width=4096, model__depth=8)
    found = json.loads(out)
    assert not found["hbm"]["fits"]
    assert found["largest_batch"]["clips_per_chip"] == 0
    split = {"mesh.preset": "fsdp", "mesh.fsdp": 4}
    assert any(remedy["change"] == split and remedy["fits"] for remedy in found["remedies"])
    assert "--config.mesh.fsdp=4" in table.describe(found)
