"""What a run writes down: JSON lines that a resumed run rewrites, and the progress line."""

import json
import re

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from echofm_jax.metrics import MetricWriter, Progress, Report, forget_after, read_metrics

VALUES = {
    "loss": 1.5, "recon": 1.0, "triplet": 0.2, "cycle": 0.3, "grad_norm": 12.3456,
    "clips_per_s": 41.26, "mfu": 0.347, "skipped": 0.0, "bad_in_a_row": 0.0,
}  # fmt: skip


def test_a_resumed_run_rewrites_the_later_steps(tmp_path):
    first = MetricWriter(tmp_path, start=0)
    for step in (1, 2, 3, 4):
        first.write(step, {"loss": float(step)})
    first.close()
    again = MetricWriter(tmp_path, start=2)
    again.write(3, {"loss": 33.0})
    again.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows == [
        {"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 33.0},
    ]  # fmt: skip
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert not list(tmp_path.glob("*.tmp*"))


def test_a_line_is_on_disk_once_written(tmp_path):
    writer = MetricWriter(tmp_path, start=0)
    writer.write(1, {"loss": float("nan")})
    (row,) = read_metrics(tmp_path / "metrics.jsonl")  # nothing was closed
    assert row["step"] == 1 and row["loss"] != row["loss"]
    writer.close()


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]
    writer = MetricWriter(tmp_path, start=1)
    writer.write(2, {"loss": 1.0})
    writer.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_nothing_to_forget_makes_an_empty_file(tmp_path):
    forget_after(tmp_path / "metrics.jsonl", 5)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert read_metrics(tmp_path / "nowhere.jsonl") == []


def test_the_progress_line_shows_every_term(capsys):
    progress = Progress(start=10, total=100)
    progress.update(20, VALUES)
    progress.update(30, VALUES | {"skipped": 3.0})
    progress.close()
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    terms = "loss 1.5, recon 1, triplet 0.2, cycle 0.3, grad_norm 12.35, 41.3 clips/s, MFU 34.7%"
    assert re.fullmatch(rf"step 20/100, ETA \d\d:\d\d, {re.escape(terms)}", first)
    assert re.fullmatch(rf"step 30/100, ETA .*{re.escape(terms)}, 3 skipped", second)


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress(start=10, total=100)
    progress.update(30, VALUES)
    progress.close()
    shown = capsys.readouterr().err
    for part in ("30/100", "loss 1.5", "41.3 clips/s", "MFU 34.7%"):
        assert part in shown


@pytest.fixture
def report(tmp_path):
    config = ConfigDict({"train": {"log_every": 2, "max_bad_steps": 3}, "data": {"batch_size": 4}})
    return Report(config, tmp_path, start=0, steps=5, schedule=lambda n: 0.5 * n, flops=1e9)


def metrics(step: int, bad: int = 0) -> dict:
    shown = {name: jnp.float32(step) for name in ("loss", "recon", "triplet", "cycle")}
    return shown | {
        "grad_norm": jnp.float32(1), "skipped": jnp.int32(bad), "bad_in_a_row": jnp.int32(bad)
    }  # fmt: skip


def test_a_report_writes_every_nth_step_and_the_last(report, tmp_path):
    with report:
        for step in range(1, 6):
            report.log(step, metrics(step))
        assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2, 4]
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 2), (4, 4), (5, 5)]
    # Step n is made with the rate after n - 1 updates.
    assert [row["lr"] for row in rows] == [0.5, 1.5, 2.0]
    for row in rows:
        assert row["clips_per_s"] > 0
        assert row["mfu"] == pytest.approx(row["clips_per_s"] / 4 * 1e9 / report.peak)
    assert not report.diverged


def test_a_report_says_that_training_diverged(report):
    with report:
        report.log(2, metrics(2, bad=2))
        report.log(4, metrics(4, bad=4))
        assert not report.diverged  # step 4 is still pending
    assert "4 steps in a row were not finite, up to step 4" in report.diverged
