"""`echofm bench`: the last line is JSON with every figure that the table shows."""

import json

import pytest

from echofm_jax import bench


def lines(argv: list[str], capsys) -> list[str]:
    assert bench.main(argv) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def few_runs(monkeypatch):
    monkeypatch.setattr(bench._startup, "__defaults__", (1,))


def test_startup(few_runs, capsys):
    *table, last = lines(["startup"], capsys)
    figures = json.loads(last)
    assert list(figures) == ["python_seconds", "import_echofm_jax_seconds", "echofm_help_seconds"]
    assert all(seconds > 0 for seconds in figures.values())
    assert [line.split()[0] for line in table] == list(figures)


@pytest.mark.parametrize("argv", [["--json", "startup"], ["startup", "--json"]])
def test_json_alone(argv, few_runs, capsys):
    (only,) = lines(argv, capsys)
    assert "python_seconds" in json.loads(only)


def test_a_benchmark_must_be_named(capsys):
    with pytest.raises(SystemExit) as ended:
        bench.main([])
    assert ended.value.code == 2 and "part" in capsys.readouterr().err


@pytest.mark.slow
def test_step(capsys):
    *_, last = lines(["step", "--model", "vit_s", "--steps", "1"], capsys)
    figures = json.loads(last)
    assert figures["model"] == "vit_s" and figures["batch_size"] == 1
    for name in ("seconds_per_step", "clips_per_s", "gflops_per_s", "peak_rss_gb"):
        assert figures[name] > 0
    assert figures["clips_per_s"] == pytest.approx(1 / figures["seconds_per_step"])
