import argparse
import json

import numpy as np

from data_pipelines.bench_loader import add_arguments, bench_loader
from data_pipelines.loader import LoaderConfig, make_loader
from data_pipelines.speckle import write_speckle


def test_measures_the_loader_on_simulated_speckle(tmp_path):
    folder = str(tmp_path / "speckle")
    write_speckle(folder, clips=4)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = ["--data_dir", folder, "--seconds", "0.2", "--rounds", "1", "--batch_size", "2"]
    result = bench_loader(**vars(parser.parse_args(arguments)))
    assert json.loads(json.dumps(result)) == result
    assert result["records"] == 4
    assert result["one_core"] == result["rounds"]["one_core"][0] > 0
    assert result["decode_one_core"] > 0
    if result["settings"]["cores"] > 1:
        assert result["scaling"] == round(result["two_cores"] / result["one_core"], 2)
    assert result["batch_mib"] == round((2 * 32 * 224 * 224 + 2 * (196 * 4 + 4 + 8 + 1)) / 2**20, 1)
    assert result["peak_rss_mib"]["one_core"] > result["batch_mib"]


def test_speckle_is_as_hard_to_decode_as_real_clips(tmp_path):
    folder = str(tmp_path / "speckle")
    write_speckle(folder, clips=2)
    clip = next(make_loader(LoaderConfig(data_dir=folder, batch_size=2)))["clip"]
    assert 0.35 < (clip == 0).mean() < 0.6  # sector scans: 0.42 to 0.49 black
    assert not np.array_equal(clip[0], clip[1])
    assert (clip[:, 1:] != clip[:, :-1]).mean() > 0.2  # it moves
