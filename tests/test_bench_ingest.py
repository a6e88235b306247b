import argparse
import json

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41 as H264
from pydicom.uid import JPEGBaseline8Bit
from test_dicom import grey, write

from data_pipelines import bench_ingest as bench_ingest_module
from data_pipelines import phantom_files, phantom_image, readers
from data_pipelines.bench_ingest import add_arguments, bench_ingest, usable, write_phantoms
from echofm_jax.errors import InputError


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, height=120)
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
    (tmp_path / "notes.dcm").write_text("no clip either")
    stream = encapsulate([b"no code stream"] * 4)
    write(tmp_path / "broken.dcm", grey(), JPEGBaseline8Bit, stream)
    write(tmp_path / "no_sector.dcm", grey())  # to pydicom it is a clip, to ingest none
    clip = phantom_image.simulate("A4C", 5, size=(96, 128))
    phantom_files.write_video(tmp_path / "v.mp4", clip, phantom_files.identity(0, 0), "libx264")
    stream = encapsulate([(tmp_path / "v.mp4").read_bytes()])
    colours = np.repeat(clip.frames[..., None], 3, -1)
    write(tmp_path / "video.dcm", colours, H264, stream)  # to ingest it is a clip, to pydicom none
    assert readers.read(tmp_path / "video.dcm").frames.shape == colours.shape
    assert usable(str(tmp_path), 32) == [tmp_path / "good.dcm"]
    (tmp_path / "good.dcm").unlink()
    with pytest.raises(InputError, match="no DICOM clip"):
        bench_ingest(str(tmp_path))


def test_of_many_files_some_are_taken(phantoms, monkeypatch):
    monkeypatch.setattr(bench_ingest_module, "MOST", 2)
    files = usable(str(phantoms), 32)
    assert len(files) == 2 and files == sorted(files) and set(files) < set(phantoms.iterdir())


@pytest.mark.parametrize("changes", [{"rounds": 0}, {"size": 0}])
def test_settings_that_make_no_sense_are_one_line(phantoms, changes):
    with pytest.raises(InputError, match="--rounds: at least 1"):
        bench_ingest(str(phantoms), **changes)
