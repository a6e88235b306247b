"""Simulated clips as files: they read back, and say that they are simulated."""

import functools

import numpy as np
import pydicom
import pytest

from data_pipelines import readers
from data_pipelines.phantom_files import FORMATS, identity, write_dicom, write_video
from data_pipelines.phantom_image import simulate
from data_pipelines.phantom_screen import screen

SMALL = (120, 160)
PERSON = identity(0, 0)


@functools.cache
def clip(view="A2C", colour=False):
    return simulate(view, 0, SMALL, colour=colour)


WRITERS = {
    "raw.dcm": lambda *a: write_dicom(*a, "raw"),
    "rle.dcm": lambda *a: write_dicom(*a, "rle"),
    "jpeg.dcm": lambda *a: write_dicom(*a, "jpeg"),
    "ybr.dcm": lambda *a: write_dicom(*a, "ybr_jpeg"),
    "screen.avi": lambda *a: write_video(*a, "mjpeg"),
    "screen.mp4": lambda *a: write_video(*a, "libx264"),
    "old.mp4": lambda *a: write_video(*a, "mpeg4"),
}
WORST = {"raw.dcm": 0, "rle.dcm": 0, "jpeg.dcm": 2, "ybr.dcm": 2}  # mean grey levels; videos 4


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_reads_back(name, tmp_path):
    source = clip()
    WRITERS[name](tmp_path / name, source, PERSON)
    found = readers.read(tmp_path / name)
    expected = screen(source, PERSON)
    assert found.frames.shape[:3] == expected.shape
    assert found.fps == pytest.approx(source.fps, rel=0.01)
    grey = found.frames if found.frames.ndim == 3 else found.frames.mean(-1)
    assert np.abs(grey.astype(float) - expected).mean() <= WORST.get(name, 4)
    if name.endswith(".dcm"):
        assert found.patient == PERSON["id"]


def test_npy_holds_the_sector_alone(tmp_path):
    source = clip()
    dict(FORMATS)[".npy"](tmp_path / "clip.npy", source, PERSON)
    found = readers.read(tmp_path / "clip.npy").frames
    assert len(found) == len(source.frames) and found.size < source.frames.size
    assert found.sum(dtype=int) == source.frames.sum(dtype=int)


def test_a_dicom_says_that_it_is_simulated(tmp_path):
    write_dicom(tmp_path / "x.dcm", clip(), PERSON, "raw")
    data = pydicom.dcmread(tmp_path / "x.dcm")
    assert "SIMULATED" in data.SeriesDescription and data.PatientName == PERSON["name"]
    (region,) = data.SequenceOfUltrasoundRegions
    sector = clip().sector
    box = sector[
        region.RegionLocationMinY0 : region.RegionLocationMaxY1 + 1,
        region.RegionLocationMinX0 : region.RegionLocationMaxX1 + 1,
    ]
    assert box.sum() == sector.sum()
    assert box[0].any() and box[-1].any() and box[:, 0].any() and box[:, -1].any()


def test_identities_differ_by_study_and_stay_by_seed():
    people = [identity(study, 0) for study in range(100)]
    assert people[0] == identity(0, 0) != identity(0, 1)
    assert len({person["id"] for person in people}) == len(people)
    assert len({person["name"] for person in people}) == len(people)
