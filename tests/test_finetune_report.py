"""What all trainings came to: text, file and learning curve."""

import csv
import json

import pytest

from echofm_jax import figure_theme
from echofm_jax.pytorch import finetune_report


def found(
    name: str, value: float, patients: int, weights: str = "pretrained", mode: str = "lora"
) -> dict:
    return {
        "run": name, "task": "number", "target": "ejection_fraction", "weights": weights,
        "simulated": True, "clips": {"train": 2 * patients, "test": 6},
        "patients": {"train": patients}, "chance": {"mae": 9.0, "r2": None},
        "recipe": {"mode": mode, "head": "linear"}, "trained_parameters": 1234,
        "peak_memory": {"bytes": 3 * 2**19, "what": "tensors on the GPU"},
        "scores": {"mae": {"value": value, "low": value - 1, "high": value + 1},
                   "r2": {"value": None, "low": None, "high": None}},
    }  # fmt: skip


RUNS = [
    found("pretrained-share=0.1-seed=0", 7.0, 5), found("pretrained-share=1-seed=0", 4.0, 50),
    found("pretrained-share=0.1-seed=1", 8.0, 5), found("pretrained-share=1-seed=1", 5.0, 51),
    found("random-share=0.1-seed=0", 9.0, 5, "random"),
    found("random-share=1-seed=0", 8.0, 50, "random"),
]  # fmt: skip
REFUSED = [("a.avi", "no_frame_rate", ""), ("b.avi", "unreadable", ""), ("c.avi", "unreadable", "")]


def test_one_file_for_all(tmp_path):
    summary = finetune_report.write(tmp_path, "ejection_fraction", RUNS, REFUSED)
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept["refused"] == summary["refused"] == {"no_frame_rate": 1, "unreadable": 2}
    assert [run["run"] for run in kept["runs"]] == [run["run"] for run in RUNS]
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        "metrics.json", "table.csv", "learning_curve.png", "learning_curve-dark.png",
    }  # fmt: skip
    text = finetune_report.text(summary)
    assert "pretrained-share=0.1-seed=0 (10 clips, 6 held out)" in text
    assert "  mae                     7.000   6.000 – 8.000   chance 9.000" in text
    assert "  r2                       none   none – none\n" in text
    assert "left out: 2 clips, unreadable" in text
    assert "a.avi" not in text + json.dumps(kept)


def test_one_share_has_no_curve(tmp_path):
    alone = found("pretrained", 7.0, 5)
    finetune_report.write(tmp_path, "ejection_fraction", [alone], [])
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.json", "table.csv"}
    assert finetune_report.amount(alone) == 1 and finetune_report.amount(RUNS[0]) == 0.1
    assert finetune_report.amount(found("pretrained-studies=50-seed=0", 7.0, 5)) == 50
    assert finetune_report.compared([alone]) == []


def test_the_table_sets_quality_beside_cost(tmp_path):
    runs = [found(f"pretrained-{mode}", 7.0, 5, mode=mode) for mode in ("lora", "full")]
    runs[1]["trained_parameters"] = 56_789_000
    runs[1]["peak_memory"]["bytes"] = None
    summary = finetune_report.write(tmp_path, "ejection_fraction", runs, [])
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["mode"] for row in rows] == ["lora", "full"]
    assert rows[0] == {
        "run": "pretrained-lora", "weights": "pretrained", "mode": "lora", "head": "linear",
        "train_clips": "10", "train_patients": "5", "trained_parameters": "1234",
        "peak_memory_mib": "1.5", "memory_is": "tensors on the GPU", "figure": "mae",
        "value": "7.0", "low": "6.0", "high": "8.0", "chance": "9.0",
    }  # fmt: skip
    assert rows[1]["peak_memory_mib"] == "" and rows[1]["trained_parameters"] == "56789000"
    lines = finetune_report.text(summary).splitlines()
    (full,) = (line for line in lines if line.startswith("pretrained-full full"))
    assert full.split() == [
        "pretrained-full", "full", "56,789,000", "unknown", "7.000", "(6.000", "–", "8.000)"
    ]  # fmt: skip
    assert "memory: peak while training, tensors on the GPU" in lines


def test_the_curve():
    """Means over seeds at the mean count of patients, and each training as a point."""
    drawn = finetune_report.learning_curve(figure_theme.LIGHT, RUNS, "mae")
    (axes,) = drawn.axes
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert lines[0] == [[5, 7.5], [50.5, 4.5]]
    assert sorted(lines[1]) == [[5, 7], [5, 8], [50, 4], [51, 5]]
    assert lines[2] == [[5, 9], [50, 8]]
    assert axes.get_ylabel() == "mae" and axes.get_xscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["pretrained weights", "random weights"]
    runs = [*RUNS, found("pretrained-share=1-seed=0-full", 3.0, 50, mode="full")]
    (axes,) = finetune_report.learning_curve(figure_theme.LIGHT, runs, "mae").axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["pretrained weights, full", "pretrained weights, lora",
                      "random weights, lora"]  # fmt: skip
    assert drawn.get_suptitle() == "ejection fraction: what more labels bring  ·  simulated"


@pytest.mark.parametrize("task", finetune_report.MAIN)
def test_every_task_has_a_main_figure(task):
    known = "balanced_accuracy", "mae", "dice", "dice_after_3", "landmark_error_pixels"
    assert finetune_report.MAIN[task] in known
