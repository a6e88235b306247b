"""Sweep files: their cells, what those are called, and everything that can be wrong with one."""

import itertools
from pathlib import Path

import pytest
from conftest import REPO

from echofm_jax import cli
from echofm_jax.sweep_file import cells_of

SMOKE = str(REPO / "configs" / "smoke.py")


def write(folder: Path, body: str) -> Path:
    path = folder / "sweep.py"
    path.write_text(f"from echofm_jax.sweep_file import Sweep\n\ndef get_sweep():\n    {body}\n")
    return path


def sweep(folder: Path, **parts) -> Path:
    parts = {"config": SMOKE, "seeds": [0]} | parts
    told = ", ".join(f"{name}={value!r}" for name, value in parts.items())
    return write(folder, f"return Sweep({told})")


def test_cells_are_all_combinations_with_their_own_names_and_configs(tmp_path):
    path = sweep(
        tmp_path,
        config=f"{SMOKE}:paper",
        fixed={"optim.steps": 7, "objective.triplet_margin": 0.1},
        settings={"own": {}, "wide": {"objective.triplet_margin": 0.4}},
        grid={"model.depth": [2, 4], "model.decoder_depth": [1], "objective.mask_ratio": [0.5]},
        seeds=[3, 1],
    )
    cells = cells_of(path, ["--config.data.dir=D"])
    names = [f"{name}+depth={depth}+decoder_depth=1+mask_ratio=0.5"
             for name, depth in itertools.product(("own", "wide"), (2, 4))]  # fmt: skip
    assert [cell.name for cell in cells] == [f"{n}/seed={s}" for s in (3, 1) for n in names]
    last = cells[-1].config
    assert (last.seed, last.data.dir, last.optim.steps) == (1, "D", 7)
    assert (last.model.depth, last.model.width) == (4, 192)
    assert (last.objective.triplet_margin, last.objective.prior) == (0.4, "embedding")
    assert cells[0].config.objective.triplet_margin == 0.1


def test_fields_of_the_same_last_name_keep_their_whole_one(tmp_path):
    (cell,) = cells_of(sweep(tmp_path, grid={"optim.clip_norm": [1e-5], "data.dir": ["a/b c"]}))
    assert cell.setting == "clip_norm=1e-05+dir=a_b_c"
    grid = {"data.augment.speed": [0.0], "model.patch": [16]}
    (cell,) = cells_of(sweep(tmp_path, grid=grid))
    assert cell.setting == "speed=0+patch=16"


def test_a_setting_may_have_another_base_config(tmp_path):
    other = str(REPO / "configs" / "echoapex_smoke.py")
    settings = {
        "own": {"model.depth": 2},
        "images": {"config": other, "objective.koleo_weight": 0.5},
    }
    own, images = cells_of(sweep(tmp_path, settings=settings, fixed={"optim.steps": 7}))
    assert (own.spec, own.config.method, own.config.model.depth) == (SMOKE, "echofm", 2)
    assert (images.spec, images.config.method) == (other, "dinov2")
    assert images.config.objective.koleo_weight == 0.5 and images.config.optim.steps == 7
    assert not any("config.config" in override for override in images.overrides)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"grid": {"objective.maskin": ["random"]}}, "did you mean 'objective.masking'?"),
        ({"settings": {"a": {"objectve.masking": "x"}}}, "a: unknown config field"),
        ({"grid": {"objective.masking": ["randm"]}}, "objective.masking='randm' is none of"),
        ({"grid": {"objective.mask_ratio": [0.5, "lots"]}}, "mask_ratio=lots: bad override"),
        ({"grid": {"objective.mask_ratio": [1.5]}}, "mask_ratio=1.5 is not in [0, 1)"),
        ({}, "the grid is empty"),
        ({"grid": {"objective.masking": []}}, "objective.masking has no list of values: []"),
        ({"grid": {"objective.masking": "random"}}, "has no list of values: 'random'"),
        ({"grid": {"model.depth": [1, 1]}}, "two settings are called 'depth=1'"),
        ({"settings": {"a": {}, "b": {"model.depth": 4}}}, "are the same config"),
        ({"settings": {"a": {"seed": 1}}}, "seed is told twice"),
        ({"grid": {"model.depth": [1]}, "settings": {"a": {"model.depth": 1}}}, "told twice"),
        ({"settings": {"a": 1}}, "setting 'a' must be a dict"),
        ({"fixed": 1, "settings": {"a": {}}}, "fixed must be a dict"),
        ({"settings": {"a": {}}, "seeds": []}, "seeds=[]: give a list of at least one"),
        ({"settings": {"a": {}}, "seeds": [0, 0]}, "each once"),
        ({"settings": {"a": {}}, "config": "none.py"}, "no config file at none.py"),
        ({"settings": {"a": {}}, "config": f"{SMOKE}:papr"}, "did you mean 'paper'?"),
        ({"settings": {"a": {"config": "none.py"}}}, "a: no config file at none.py"),
        ({"settings": {"a": {}}, "heads": {"view": "--task=view"}}, "'view' must be a list of"),
        ({"settings": {"a": {}}, "heads": {"../x": []}}, "head '../x' is no name of a folder"),
        ({"settings": {"a": {}}, "heads": {"view": ["--seed=3"]}}, "--seed=3 is each cell's own"),
        ({"settings": {"a": {}}, "gird": {}}, "line 4: TypeError"),
    ],
)  # fmt: skip
def test_a_bad_sweep_is_one_line_and_makes_no_folder(parts, said, tmp_path, capsys):
    path, workdir = sweep(tmp_path, **parts), tmp_path / "W"
    assert cli.run("sweep", [str(path), f"--workdir={workdir}", "--config.data.dir=D"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith(f"echofm sweep: {path}")
    assert error.count("\n") == 1 and not workdir.exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 3", "get_sweep() must return a Sweep, not int"),
        ("return Sweep(config=nowhere)", "line 4: NameError: name 'nowhere' is not defined"),
        ("return Sweep(", "SyntaxError: '(' was never closed"),
    ],
)
def test_a_file_that_is_no_sweep_is_one_line(body, said, tmp_path, capsys):
    assert cli.run("sweep", [str(write(tmp_path, body)), f"--workdir={tmp_path / 'W'}"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jobs=0", "--config.data.dir=D"], "--jobs 0: give at least 1"),
        ([], "no data: give --config.data.dir=DIR"),
        (["--config.data.dir=D", "--cell=1"], "--cell 1: the sweep has cells 0 to 0"),
        (["--config.data.dir=D"], "no data set in D: make one with `echofm ingest"),
        (["--config.model.depth=3"], "model.depth is told twice"),
        (["--config.model.dpeth=3"], "did you mean 'model.depth'?"),
        (["--config.seed"], "unknown argument --config.seed"),
        (["--", "--zone=z"], "--zone=z is for a launcher"),
    ],
)
def test_bad_arguments_are_one_line_and_make_no_folder(arguments, said, tmp_path, capsys):
    path, workdir = sweep(tmp_path, grid={"model.depth": [2]}), tmp_path / "W"
    assert cli.run("sweep", [str(path), f"--workdir={workdir}", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not workdir.exists()


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert cli.run("sweep", [str(tmp_path / "no.py"), f"--workdir={tmp_path / 'W'}"]) == 2
    assert "no sweep file at" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((REPO / "configs" / "sweeps").glob("*.py")), ids=str)
def test_every_sweep_of_ours_has_three_seeds_and_its_baseline(path, monkeypatch):
    monkeypatch.chdir(REPO)
    cells = cells_of(path)
    assert {cell.seed for cell in cells} >= {0, 1, 2}
    (baseline,) = [
        line.partition("--baseline=")[2]
        for line in path.read_text().splitlines()
        if "--baseline=" in line
    ]
    assert baseline in {cell.setting for cell in cells}
