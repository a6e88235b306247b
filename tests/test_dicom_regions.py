"""Regions of the screen and their millimetres, in the picture or outside of it."""

import math

import numpy as np
import pydicom
import pytest
from conftest import SAMPLES
from test_dicom import grey, write
from test_sector import needs_samples

from data_pipelines import dicom
from data_pipelines.clip import Region


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clip.dcm"


def region(left=4, top=8, right=59, bottom=43, **tags):
    """One that lies in 48 × 64 pixels: 36 rows of 1 mm, 56 columns of 0.8 mm."""
    item = pydicom.Dataset()
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.08, 0.1
    for tag, value in tags.items():
        setattr(item, tag, value)
    return item


def read(path, *items):
    return dicom.read(write(path, grey(), SequenceOfUltrasoundRegions=list(items)))


def test_a_region_with_its_millimetres(path):
    clip = read(path, region())
    box = slice(8, 44), slice(4, 60)
    assert clip.regions == (Region(box=box, kind="2d", spacing=(1.0, 0.8)),)
    assert clip.region == box and clip.spacing == (1.0, 0.8)


def test_no_regions(path):
    clip = dicom.read(write(path, grey()))
    assert clip.regions == () and clip.region is None
    np.testing.assert_equal(clip.spacing, (math.nan, math.nan))


def test_two_planes_side_by_side(path):
    clip = read(path, region(0, 0, 29, 40), region(32, 0, 63, 40, PhysicalDeltaY=0.12))
    assert [r.box[1] for r in clip.regions] == [slice(0, 30), slice(32, 64)]
    assert clip.region is None and clip.spacing == clip.regions[1].spacing


def test_only_2d_regions_are_the_image(path):
    clip = read(path, region(right=20, RegionDataType=2), region(RegionSpatialFormat=4))
    assert [(r.kind, r.flow) for r in clip.regions] == [("2d", True), ("wave_form", False)]
    assert clip.region == clip.regions[0].box
    assert math.isnan(clip.regions[1].spacing[0])


@pytest.mark.parametrize(
    "item",
    [
        region(84, 31, 595, 414),  # of the picture before it was scaled
        region(4, 8, 59, 60),
        region(2**32 - 10, 8, 59, 43),  # -10 in an unsigned tag
        region(59, 8, 4, 43),  # corners exchanged
        region(0, 0, 0, 0),
        region(0, 0, 8, 8),  # too small to be one
        pydicom.Dataset(),
    ],
)
def test_regions_elsewhere_are_left_out(path, item):
    clip = read(path, item)
    assert clip.regions == () and math.isnan(clip.spacing[0])


def test_a_row_too_many_is_cut_off(path):
    assert read(path, region(0, 0, 64, 47)).region == (slice(0, 48), slice(0, 64))


@pytest.mark.parametrize(
    "tags",
    [
        {"PhysicalUnitsXDirection": 4},  # seconds
        {"PhysicalDeltaX": 0},
        {"PhysicalDeltaX": 0.3},  # pixels are nearly square
        {"PhysicalDeltaY": math.nan},
        {"PhysicalDeltaX": 2.0, "PhysicalDeltaY": 2.0},  # 72 cm deep
        {"PhysicalDeltaX": 1e-9, "PhysicalDeltaY": 1e-9},
    ],
)
def test_millimetres_that_make_no_sense(path, tags):
    clip = read(path, region(**tags))
    assert clip.region and math.isnan(clip.spacing[0]) and math.isnan(clip.spacing[1])


def test_a_mirrored_image_has_negative_millimetres(path):
    assert read(path, region(PhysicalDeltaX=-0.08)).spacing == (1.0, 0.8)


@needs_samples
def test_real_headers():
    sonosite = dicom.read(SAMPLES / "sonosite_a4c_ybr422_jpeg.dcm")
    assert sonosite.region is None and math.isnan(sonosite.spacing[0])
    acuson = dicom.read(SAMPLES / "acuson_colour_doppler_rgb.dcm")
    assert acuson.region == (slice(16, 218), slice(0, 320))
    assert math.isnan(acuson.spacing[0])  # 46 cm deep
    assert acuson.heart_rate == 150 and acuson.fps_source == "FrameTimeVector"
