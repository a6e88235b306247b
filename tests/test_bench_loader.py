import argparse
import json

import numpy as np
import pytest

from data_pipelines.bench_loader import add_arguments, bench_loader
from data_pipelines.speckle import write_speckle
from echofm_jax import cli


def test_measures_the_loader_on_simulated_speckle(tmp_path):
    folder = str(tmp_path / "speckle")
    write_speckle(folder, clips=4)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    np.save(tmp_path / "clip.npy", np.zeros((40, 64, 48), np.uint8))
    (tmp_path / "clip.avi").write_bytes(b"none")
    arguments = ["--data_dir", folder, "--seconds", "0.2", "--rounds", "1", "--batch_size", "2"]
    arguments += ["--source", str(tmp_path / "clip.*"), "--windows_per_record", "2"]
    result = bench_loader(**vars(parser.parse_args(arguments)))
    assert json.loads(json.dumps(result)) == result
    assert result["records"] == 4
    assert result["one_core"] == result["rounds"]["one_core"][0] > 0
    for name in ("decode_one_core", "npy_one_core", "source_one_core"):
        assert result[name] > 0
    cpu = result["per_cpu_second"]
    assert cpu["of_decode_limit"] == pytest.approx(cpu["one_core"] / cpu["decode_one_core"], 0.01)
    needed = [round(rate / result["one_core"], 1) for rate in (106, 246)]
    assert result["cores_needed"]["v5e_host"] == needed
    assert result["batches_mib_at_most"]["one_core"] == pytest.approx(4 * result["batch_mib"])
    if result["settings"]["cores"] > 1:
        assert result["scaling"] == round(result["two_cores"] / result["one_core"], 2)
    assert result["batch_mib"] == round((2 * 32 * 224 * 224 + 2 * (196 * 4 + 4 + 8 + 1)) / 2**20, 1)
    assert result["peak_rss_mib"]["one_core"] > result["batch_mib"]


def test_measures_crops_and_where_their_time_goes(tmp_path, capsys):
    folder = str(tmp_path / "speckle")
    write_speckle(folder, clips=2)
    arguments = ["--data_dir", folder, "--seconds", "0.1", "--rounds", "1", "--batch_size", "2"]
    assert cli.main(["bench", "loader", "--crops", "--windows_per_record", "2", *arguments]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    cpu, shares = result["per_cpu_second"], result["shares"]
    assert cpu["read_one_core"] > cpu["one_core"] > 0
    assert shares["decode"] == pytest.approx(cpu["one_core"] / cpu["decode_one_core"], abs=0.01)
    assert sum(shares.values()) == pytest.approx(1, abs=0.02)
    pixels = 2 * 224**2 + 8 * 98**2
    assert result["batch_mib"] == pytest.approx(2 * pixels / 2**20, abs=0.1)
    assert result["settings"]["windows_per_record"] == 2


@pytest.mark.parametrize("option", ["--rounds=0", "--seconds=0", "--seconds=nan"])
def test_what_would_measure_nothing_is_one_line(option, capsys):
    assert cli.main(["bench", "loader", option]) == 2
    assert "measure at least once" in capsys.readouterr().err
