"""Modes from tags and from pixels."""

import pytest
from test_dicom import grey, rejection, write
from test_dicom_regions import region

from data_pipelines import dicom


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clip.dcm"


@pytest.mark.parametrize(
    ("code", "mode"),
    [("0001", "b_mode"), ("0011", "colour_doppler"), ("0101", "colour_doppler"), ("0040", "")],
)
def test_mode(path, code, mode):
    write(path, grey(), ImageType=["ORIGINAL", "PRIMARY", "TTE", code])
    assert dicom.read(path).mode == mode


def test_mode_is_unknown_without_a_fourth_value(path):
    assert dicom.read(write(path, grey())).mode == ""
    assert dicom.read(write(path, grey(), ImageType=["ORIGINAL", "PRIMARY"])).mode == ""
    assert dicom.read(write(path, grey(), ImageType=["A", "B", "C", "M_FFE"])).mode == ""


@pytest.mark.parametrize("code", ["0002", "0003", "0004", "0009", "0020"])
def test_traces_are_rejected(path, code):
    write(path, grey(), ImageType=["ORIGINAL", "PRIMARY", "", code])
    assert rejection(path) == "m_mode_or_spectral"


@pytest.mark.parametrize("kind", [2, 3])
def test_a_region_with_a_trace_is_rejected(path, kind):
    items = [region(0, 0, 63, 20), region(0, 24, 63, 47, RegionSpatialFormat=kind)]
    write(path, grey(), SequenceOfUltrasoundRegions=items)
    assert rejection(path) == "m_mode_or_spectral"
    # One that lies outside the picture says nothing about it.
    items[1].RegionLocationMaxX1 = 640
    write(path, grey(), SequenceOfUltrasoundRegions=items)
    assert dicom.read(path).mode == ""


def test_a_region_of_flow_is_colour_doppler_and_one_of_tissue_is_no_proof(path):
    def mode(data_type, **tags):
        items = [region(RegionDataType=data_type)]
        return dicom.read(write(path, grey(), SequenceOfUltrasoundRegions=items, **tags)).mode

    assert mode(2) == "colour_doppler"
    assert mode(1) == ""
    assert mode(1, ImageType=["ORIGINAL", "PRIMARY", "", "0011"]) == "colour_doppler"
    assert mode(2, ImageType=["ORIGINAL", "PRIMARY", "", "0001"]) == "colour_doppler"


@pytest.mark.parametrize(
    ("agent", "mode"), [("DEFINITY", "contrast"), ("", "b_mode"), ("none ", "b_mode")]
)
def test_contrast(path, agent, mode):
    write(path, grey(), ContrastBolusAgent=agent, ImageType=["ORIGINAL", "PRIMARY", "TTE", "0001"])
    assert dicom.read(path).mode == mode
    write(path, grey(), ContrastBolusAgent=agent)
    assert dicom.read(path).mode == ("contrast" if mode == "contrast" else "")
    write(path, grey(), ContrastBolusAgent=agent, ImageType=["ORIGINAL", "PRIMARY", "TTE", "0011"])
    assert dicom.read(path).mode == "colour_doppler"


def test_contrast_by_its_sequence(path):
    from pydicom import Dataset

    code = Dataset()
    code.CodeMeaning = "Perflutren"
    write(path, grey(), ContrastBolusAgentSequence=[code])
    assert dicom.read(path).mode == "contrast"
