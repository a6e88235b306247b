import argparse
import json

import pytest

from data_pipelines.bench_ingest import add_arguments, bench_ingest, usable, write_phantoms
from echofm_jax.errors import InputError


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, height=96)
    return folder


def test_measures_both_ways_on_phantoms(phantoms):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = ["--source", str(phantoms), "--seconds", "0.1", "--rounds", "1", "--size", "32"]
    result = bench_ingest(**vars(parser.parse_args(arguments)))
    assert json.loads(json.dumps(result)) == result
    assert result["settings"]["files"] == 3
    assert result["speedup"] == pytest.approx(result["ingest"] / result["pixel_array_cv2"], abs=0.1)
    for name in ("ingest", "pixel_array_cv2"):
        assert result["rounds"][name] == [result[name]] and result[name] > 0
        spent = sum(result["ms_per_clip"][name].values())
        assert spent == pytest.approx(1000 / result[name], rel=0.05)


def test_only_what_ingest_accepts_is_measured(phantoms, tmp_path):
    good = phantoms / "0.dcm"
    (tmp_path / "good.dcm").write_bytes(good.read_bytes())
    (tmp_path / "cut.dcm").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "notes.txt").write_text("no clip")
    assert usable(str(tmp_path), 32) == [tmp_path / "good.dcm"]
    (tmp_path / "good.dcm").unlink()
    with pytest.raises(InputError, match="no DICOM clip"):
        bench_ingest(str(tmp_path))
