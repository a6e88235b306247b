"""`echofm report`: known numbers in, the right table, page and refusals out."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO, TINY
from scipy import stats

from echofm_jax import cli
from echofm_jax import config as configs
from echofm_jax.compare_figures import panels, svg

ERROR = {"a": (10.0, 12.0, 14.0), "b": (9.0, 10.5, 13.5), "c": (20.0, None, 23.5)}  # % of a cycle


def write_run(folder: Path, data: str = "D", **fields) -> Path:
    """A finished run as `echofm train` and `evaluate` leave it."""
    metrics = fields.pop("metrics")
    given = TINY | {name.replace("__", "."): value for name, value in fields.items()}
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    config = configs.parse([*overrides, f"--config.data.dir={data}"], f"{REPO}/configs/smoke.py")
    folder.mkdir(parents=True)
    configs.save(config, folder)
    row = {
        "began": 0,
        "start": 0,
        "step": 9,
        "finished": True,
        "cpu": 7200,
        "seconds": {"step": 1800},
    }
    (folder / "goodput.json").write_text(json.dumps([row]))
    found = {
        "step": 9,
        "split": "val",
        "clips": 6,
        "patients": 3,
        "recordings": [],
        "intervals": {},
    }
    (folder / "evaluation.json").write_text(json.dumps(found | metrics))
    logged = [{"step": step, "loss": 3.0 / step, "val/loss": 4.0 / step} for step in (1, 5, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged))
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Three settings: `a` and `b` with seeds 0 to 2, `c` without 1, its 2 with fewer metrics."""
    made = []
    for margin, (setting, errors) in enumerate(ERROR.items(), 1):
        for seed, error in enumerate(errors):
            if error is None:
                continue
            metrics = {"cross_beat_error_model": error, "psnr": 20.0, "views": {"accuracy": 0.5}}
            if (setting, seed) == ("c", 2):
                metrics |= {"psnr": None}
                del metrics["views"]
            fields = {"seed": seed, "objective__triplet_margin": margin / 10}
            folder = tmp_path / "runs" / f"{setting}{seed}"
            made.append(write_run(folder, metrics=metrics, **fields))
    return made


def report(capsys, *arguments) -> str:
    assert cli.run("report", [*map(str, arguments)]) == 0
    return capsys.readouterr().out


def table(folder: Path) -> dict[tuple[str, str], dict]:
    rows = csv.DictReader((folder / "table.csv").read_text().splitlines())
    return {(row["setting"], row["metric"]): row for row in rows}


def test_means_intervals_and_paired_differences(runs, tmp_path, capsys):
    shown = report(capsys, *runs, "--baseline=a0", f"--output={tmp_path / 'R'}")
    found = table(tmp_path / "R")
    row = found["a0", "cross_beat_error_model"]
    low, high = stats.t.interval(0.95, 2, loc=12.0, scale=stats.sem(ERROR["a"]))
    assert [float(row[k]) for k in ("mean", "low", "high")] == pytest.approx([12, low, high])
    assert row["best"] == "0" and row["difference"] == ""
    row, changes = found["b0", "cross_beat_error_model"], np.subtract(ERROR["b"], ERROR["a"])
    low, high = stats.t.interval(0.95, 2, loc=-1.0, scale=stats.sem(changes))
    assert row["best"] == "1" and row["pairs"] == "3" and float(row["mean"]) == 11
    assert [float(row[f"difference{k}"]) for k in ("", "_low", "_high")] == pytest.approx(
        [-1, low, high]
    )
    row = found["c0", "cross_beat_error_model"]
    assert row["pairs"] == "2" and float(row["difference"]) == 9.75
    half = f"{stats.t.ppf(0.975, 2) * stats.sem(ERROR['b']):.2g}"
    assert re.search(rf"  b0 +11 ± {half} +best n=3 +-1 ± 1\.2\n", shown)
    assert re.search(r"  c0 +21\.75 ± 22 +n=2 +\+9\.75 ± 3\.2 \*\n", shown)
    assert float(found["a0", "hours"]["mean"]) == 0.5
    assert float(found["a0", "cpu_hours"]["mean"]) == 2.0


def test_only_the_metrics_asked_for(runs, tmp_path, capsys):
    shown = report(capsys, "--metrics", "psnr", "cross", f"--output={tmp_path / 'R'}", "--", *runs)
    assert list(dict.fromkeys(m for _, m in table(tmp_path / "R"))) == [
        "psnr",
        "cross_beat_error_model",
    ]
    assert "PSNR" in shown and "accuracy" not in shown
    arguments = [str(runs[0]), "--metrics", "cros_beat"]
    assert cli.run("report", arguments) == 2
    assert "did you mean 'cross_beat_error_model'?" in capsys.readouterr().err


def test_heads_of_a_cell_are_metrics_named_by_head_and_training(runs, tmp_path, capsys):
    sweep = tmp_path / "sweep"
    cells = []
    for seed in (0, 1):
        cell = write_run(sweep / "a" / f"seed={seed}", seed=seed, metrics={"psnr": 20.0})
        told = [{"run": f"pretrained-share={share}", "scores": {"mae": {"value": share + seed}}}
                for share in (0.1, 1)]  # fmt: skip
        (cell / "heads" / "ef").mkdir(parents=True)
        (cell / "heads" / "ef" / "metrics.json").write_text(json.dumps({"runs": told}))
        config = json.loads((cell / "config.json").read_text())
        cells.append({"name": f"a/seed={seed}", "setting": "a", "seed": seed, "config": config,
                      "heads": {"ef": ["--task=ejection_fraction"]}})  # fmt: skip
    (sweep / "sweep.json").write_text(json.dumps({"cells": cells}))
    shown = report(capsys, sweep, f"--output={tmp_path / 'R'}")
    assert "ef, share=0.1: mae, less is better" in shown
    found = table(tmp_path / "R")
    assert float(found["a", "ef/share=0.1/mae"]["mean"]) == pytest.approx(0.6)
    assert float(found["a", "ef/share=1/mae"]["mean"]) == 1.5


def test_runs_of_two_methods_are_compared_and_keep_their_own_fields(runs, tmp_path, capsys):
    images = tmp_path / "images"
    given = {"seed": 0, "objective.koleo_weight": 0.2}
    spec = f"{REPO}/configs/echoapex_smoke.py"
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    config = configs.parse([*overrides, "--config.data.dir=D"], spec)
    write_run(images, seed=0, metrics={"cross_beat_error_model": 30.0})
    configs.save(config, images)
    report(capsys, runs[0], images, f"--output={tmp_path / 'R'}")
    mine, theirs = csv.DictReader((tmp_path / "R" / "runs.csv").read_text().splitlines())
    assert (mine["method"], theirs["method"]) == ("echofm", "dinov2")
    assert (mine["objective.koleo_weight"], theirs["objective.koleo_weight"]) == ("", "0.2")
    assert (mine["objective.masking"], theirs["objective.masking"]) == ("consistent", "")


def test_what_is_missing_is_missing_and_not_zero(runs, tmp_path, capsys):
    shown = report(capsys, *runs, f"--output={tmp_path / 'R'}")
    found = table(tmp_path / "R")
    assert (found["c0", "psnr"]["n"], found["c0", "psnr"]["runs"]) == ("1", "2")
    assert float(found["c0", "psnr"]["mean"]) == 20 and found["c0", "psnr"]["low"] == ""
    assert float(found["c0", "views.accuracy"]["mean"]) == 0.5
    assert "n=1 of 2" in shown
    rows = csv.DictReader((tmp_path / "R" / "runs.csv").read_text().splitlines())
    (last,) = [row for row in rows if (row["setting"], row["seed"]) == ("c0", "2")]
    assert last["psnr"] == last["views.accuracy"] == "" and last["state"] == "done"
    assert last["objective.triplet_margin"] == "0.3"
    begun = write_run(tmp_path / "begun", metrics={}, optim__blr=0.5)  # still to be evaluated
    (begun / "evaluation.json").unlink()
    path = runs[-2] / "evaluation.json"
    path.write_text(path.read_text().replace("20.0", "null"))
    shown = report(capsys, *runs, begun)
    assert re.search(r"  c0 +missing +n=0 of 2\n", shown)
    assert "begun, seed 0: trained, not evaluated" in shown
    assert not (runs[0] / "report" / "field-optim.blr.png").exists()
    assert table(runs[0] / "report")["c0", "psnr"]["mean"] == ""
    assert "missing" in (runs[0] / "report" / "report.html").read_text()


class Page(HTMLParser):
    """What a page would load, its cells that are marked, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.loads, self.ids, self.pointed, self.marked, self.svgs = [], [], [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loads += [given[k] for k in ("src", "href", "xlink:href") if k in given]
        self.ids += [given["id"]] if "id" in given else []
        self.pointed += re.findall(r"url\(#(.*?)\)", " ".join(filter(None, given.values())))
        self.marked += "best" in given.get("class", "").split()
        self.svgs += tag == "svg"


def test_the_page_opens_offline_in_light_and_dark(runs, tmp_path, capsys):
    report(capsys, *runs, "--baseline=a0", f"--output={tmp_path / 'R'}")
    text = (tmp_path / "R" / "report.html").read_text()
    page = Page(text)
    # settings, the swept field, losses; every setting costs the same.
    pictures = sorted(path.stem for path in (tmp_path / "R").glob("*.png"))
    assert pictures == ["field-objective.triplet_margin", "losses", "settings"]
    assert page.svgs == 3 and page.marked == 1
    assert all(link.startswith("#") for link in page.loads) and "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text and "currentColor" in text and "#1c1d1e" not in text
    assert {link[1:] for link in page.loads} | {*page.pointed} <= {*page.ids}
    assert len(page.ids) == len(set(page.ids))
    for label in ("cross-beat phase error ↓", "% of a cycle", "objective.triplet_margin", "step"):
        assert f">{label}</text>" in text


def test_a_figure_keeps_every_digit_that_is_read():
    figure, (axis,) = panels(1, 2.0)
    axis.set_title("0.0012345")
    assert ">0.0012345</text>" in svg(figure)


def test_what_needs_no_training_says_what_it_is_to_be_compared_with(runs, tmp_path, capsys):
    path = runs[0] / "evaluation.json"
    found = json.loads(path.read_text()) | {"cross_beat_error_chance": 24.1}
    path.write_text(json.dumps(found))
    assert "chance" not in report(capsys, *runs)
    page = (runs[0] / "report" / "report.html").read_text()
    assert "<th>cross-beat phase error: chance<br><small>% of a cycle</small></th>" in page


def test_only_what_can_be_compared_has_a_best(runs, tmp_path, capsys):
    for number, run in enumerate(runs):
        found = json.loads((run / "evaluation.json").read_text())
        found |= {"loss": 1.0 + number, "effective_rank_model": 3.0 + number}
        (run / "evaluation.json").write_text(json.dumps(found))
    report(capsys, *runs)
    found = table(runs[0] / "report")
    # The margin is part of the loss, so losses are different things here.
    assert not any(int(found[s, "loss"]["best"]) for s in ("a0", "b0", "c0"))
    assert not any(int(found[s, "effective_rank_model"]["best"]) for s in ("a0", "b0", "c0"))


def test_other_clips_are_marked_and_other_data_refused(runs, tmp_path, capsys):
    path = runs[0] / "evaluation.json"
    path.write_text(path.read_text().replace('"val"', '"test"'))
    shown = report(capsys, *runs)
    assert "not all were evaluated on the same clips: split test" in shown
    other = write_run(tmp_path / "other", data="E", metrics={"psnr": 1.0})
    assert cli.run("report", [*map(str, runs), str(other)]) == 2
    error = capsys.readouterr().err
    assert "runs of different data sets cannot be compared" in error and str(other) in error
    assert error.count("\n") == 1


def test_bad_input_is_one_line(runs, tmp_path, capsys):
    unfinished = write_run(tmp_path / "u", metrics={})
    (unfinished / "evaluation.json").unlink()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "sweep.json").write_text('{"cells": [{"name": 3}]}')
    for arguments, said in (
        ([runs[0], "--baseline=a"], "--baseline a: no such setting: did you mean 'a0'?"),
        ([runs[0], "--baseline=zzz"], "no such setting: choose of a0"),
        ([tmp_path], f"no runs in {tmp_path}"),
        ([tmp_path / "gone"], "no runs in"),
        ([unfinished], "nothing to compare: none of 1 runs is evaluated yet"),
        ([damaged], f"{damaged / 'sweep.json'} is damaged"),
        ([runs[0], f"--output={runs[0] / 'config.json'}"], "choose another folder"),
    ):
        assert cli.run("report", [*map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error
