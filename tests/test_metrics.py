"""What a run writes down: JSON lines that a resumed run rewrites, and the progress line."""

import json
import re

from echofm_jax.metrics import MetricWriter, Progress, forget_after, read_metrics

VALUES = {
    "loss": 1.5, "recon": 1.0, "triplet": 0.2, "cycle": 0.3, "grad_norm": 12.3456,
    "clips_per_s": 41.26, "clips_per_s_per_chip": 10.315, "mfu": 0.347, "goodput": 0.912,
    "skipped": 0.0, "bad_in_a_row": 0.0, "bad_records": 0,
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
    progress.update(30, VALUES | {"skipped": 3.0, "bad_records": 2})
    progress.update(40, VALUES | {"hbm_gb": 6.54, "hbm_peak_gb": 7.25})
    progress.close()
    out, err = capsys.readouterr()
    first, second, third = err.splitlines()
    assert out == ""
    terms = "loss 1.5, recon 1, triplet 0.2, cycle 0.3, grad_norm 12.35, "
    terms += "41.3 clips/s, 10.3 a chip, MFU 34.7%, goodput 91.2%"
    assert re.fullmatch(rf"step 20/100, ETA \d\d:\d\d, {re.escape(terms)}", first)
    assert re.fullmatch(rf"step 30/100, ETA .*{re.escape(terms)}, 3 skipped, 2 bad records", second)
    assert third.endswith(f"{terms}, HBM 6.54 GB, at most 7.25")


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress(start=10, total=100)
    progress.update(30, VALUES)
    progress.close()
    shown = capsys.readouterr().err
    for part in ("30/100", "loss 1.5", "41.3 clips/s", "MFU 34.7%"):
        assert part in shown
