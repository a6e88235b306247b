"""`echofm evaluate`: the split it takes, what it writes, and a whole run on a tiny workdir."""

import contextlib
import io
import json
import math

import jax
import numpy as np
import pytest
from test_recordings import SIZE, example

from data_pipelines import shards
from echofm_jax import cli, config, evaluate
from echofm_jax.errors import InputError
from echofm_jax.evaluate import TOGETHER
from echofm_jax.held_out_recordings import HeldOut
from echofm_jax.import_weights import save_step_0
from echofm_jax.measures import SHOWN
from echofm_jax.model import init_params

CLIPS = ("loss", "recon", "triplet", "cycle", "psnr", "ssim", "effective", "prior")


def test_the_split_is_val_or_else_test_or_an_error_that_says_how_to_make_one():
    assert evaluate.choose_split({"train": 9, "val": 2, "test": 3}, None, "D") == "val"
    assert evaluate.choose_split({"train": 9, "val": 0, "test": 3}, None, "D") == "test"
    assert evaluate.choose_split({"train": 9}, "train", "D") == "train"
    with pytest.raises(InputError, match=r"val or test of D: it has train.*--split train"):
        evaluate.choose_split({"train": 9, "val": 0}, None, "D")
    with pytest.raises(InputError, match="no clip in split holdout"):
        evaluate.choose_split({"train": 9, "val": 1}, "holdout", "D")


def test_summary_leaves_out_what_is_not_known():
    clips = {"loss": np.array([1.0, 2.0, 6.0]), "effective_rank_model": 4.0}
    clips |= {n: np.zeros(3) for n in SHOWN if n.startswith(CLIPS) and n not in clips}
    measured = {"cross_beat_error_model": 1.0, "heart_rate_error_model": 1.0}
    nothing = {"cross_beat_error_model": 3.0, "heart_rate_error_model": math.nan}
    held_out = HeldOut(
        patients=["a", "b", "a"],
        phases=[measured, None, nothing | {"same_phase": [2, -1]}],
        probes={"ef_mae_model": np.array([4.0, 8.0, math.nan])},
        statistics={"af_auroc_model": (0.7, 0.6, 0.8), "af_auroc_pixels": (0.5, math.nan, 0.7)},
        train=None,
        test=None,
        drawn=None,
    )
    found = evaluate.summary(clips, held_out)
    assert found["loss"] == 3 and found["effective_rank_model"] == 4
    assert found["cross_beat_error_model"] == 2 and found["heart_rate_error_model"] == 1
    assert found["ef_mae_model"] == 6 and found["ef_mae_pixels"] is None
    assert found["intervals"]["cross_beat_error_model"] == [None, None]  # one patient
    assert found["af_auroc_model"] == 0.7 and found["intervals"]["af_auroc_model"] == [0.6, 0.8]
    assert found["intervals"]["af_auroc_pixels"] == [None, 0.7]
    low, high = found["intervals"]["loss"]
    assert low < 3 < high
    assert len(found["recordings"]) == 2
    assert found["recordings"][1]["heart_rate_error_model"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    none = evaluate.summary(clips, held_out._replace(phases=[None] * 3))
    assert none["cross_beat_error_model"] is None and none["recordings"] == []
    about = {"step": 1, "split": "val", "clips": 3, "patients": 2, "fitted_on": 9}
    assert "cross-beat phase error                       not known" in evaluate.table(none | about)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of step 0: six held-out recordings of three patients, one of them short."""
    folder = tmp_path_factory.mktemp("run")

    def recording(i, **changes):
        return example(
            bpm=60.0 + 10 * (i % 5),
            patient_id=f"{i // 2:016x}",
            view=("A4C", "A2C")[i % 2],
            rhythm=("sinus", "atrial_fibrillation")[i // 2 % 2],
            ejection_fraction=np.float32(30 + 5 * (i % 5)),
            **changes,
        )

    held_out = [recording(i, seconds=3.0) for i in range(5)]
    held_out.append(example(seconds=0.4, patient_id=f"{2:016x}"))
    data_dir = folder / "data"
    nothing = [example(seconds=0.6, labelled=False, patient_id=f"{9:016x}")] * 2 * TOGETHER
    known = [recording(i, seconds=2.0) for i in range(20, 28)]
    splits = {"train": [*nothing, *known], "val": held_out}
    shards.write_dataset(data_dir, splits, size=SIZE, encoding="zstd", simulated=True)
    settings = config.default_config("vit_s", "official")
    settings.model.update(
        width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
        frames=16, size=SIZE, patch=8, pred_frames=4, remat="none",
    )  # fmt: skip
    settings.data.update(dir=str(data_dir), workers=1)
    config.save(settings, folder)
    params = jax.jit(init_params, static_argnums=0)(
        config.architecture(settings), jax.random.key(0)
    )
    save_step_0(params, settings, folder)
    lines = [{"step": step, "loss": 2.0 / step, "recon": 1.0 / step} for step in range(1, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def printed(workdir) -> list[str]:
    """What a whole evaluation says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.run("evaluate", ["--workdir", str(workdir), "--json"]) == 0
    return said.getvalue().splitlines()


def test_evaluate_end_to_end(workdir, printed):
    printed = printed.copy()
    found = json.loads(printed[-1])
    assert found == json.loads((workdir / "evaluation.json").read_text())
    counts = {"step": 0, "split": "val", "clips": 6, "patients": 3, "fitted_on": 8}
    assert found.items() >= counts.items() and len(found["recordings"]) == 5
    for name, (meaning, _) in SHOWN.items():
        assert isinstance(found[name], float), name
        line = next(line for line in printed if line.startswith(f"  {meaning:44s} "))
        printed.remove(line)
        assert f"{found[name]:.4g}" in line
    assert 0.5 < found["recon"] < 3 and 5 < found["psnr"] < 40
    for name in ("prior_agreement", "effective_rank", "cross_beat_error"):
        assert found[f"{name}_model"] != found[f"{name}_random"]
    assert found["cross_beat_error_pixels"] < 3 < 20 < found["cross_beat_error_chance"] < 26
    assert 0 < found["end_systole_error_pixels"] < 40
    assert found["end_systole_error_pixels"] != found["end_systole_error_random"]
    assert found["view_accuracy_chance"] in (0.4, 0.6) and found["ef_mae_pixels"] > 0
    assert found["heart_rate_error_pixels"] < 2 and found["heart_rate_found_pixels"] == 1
    low, high = found["intervals"]["loss"]
    assert low < found["loss"] < high
    figures = sorted(path.name for path in (workdir / "figures").iterdir())
    drawn = ["attention.png", "loss.png", "reconstruction.gif", "reconstruction.png",
             "similarity.png", "trajectory.gif", "views.png"]  # fmt: skip
    assert figures == sorted([*drawn, *(name.replace(".", "-dark.") for name in drawn)])
    assert not list(workdir.glob(".evaluation*"))


def test_alone_measures_the_same_of_the_model_and_nothing_beside_it(workdir, printed, capsys):
    whole = json.loads(printed[-1])
    assert cli.run("evaluate", ["--workdir", str(workdir), "--json", "--alone"]) == 0
    alone = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name in SHOWN:
        beside = name.endswith(("_pixels", "_random"))
        assert alone[name] == (None if beside else pytest.approx(whole[name], rel=1e-5)), name


def test_bad_input_is_one_line_and_writes_nothing(workdir, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    for arguments, message in (
        (["--workdir", str(tmp_path)], "not a workdir"),
        (["--workdir", str(workdir), "--step", "7"], "no checkpoint of step 7"),
        (["--workdir", str(workdir), "--split", "test"], "no clip in split test"),
        (["--workdir", str(workdir), "--batches", "0"], "--batches 0"),
        (["--workdir", str(workdir), "--fit", "1"], "--fit 1"),
    ):
        assert cli.run("evaluate", arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before
