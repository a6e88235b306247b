"""Modes from tags and from pixels."""

import numpy as np
import pytest
from test_dicom import grey, rejection, write
from test_dicom_regions import region
from test_sector import fan_screen

from data_pipelines import dicom, modes


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


def trace(columns, height):
    """Doppler envelopes, or M-mode without sharp edges: [height, columns] uint8."""
    rng = np.random.default_rng(0)
    x, y = np.arange(columns), np.arange(height)[:, None]
    envelope = 0.7 * height * np.abs(np.sin(x / 25)) ** 2
    return (20 + (height - y < envelope) * rng.uniform(60, 180, (height, columns))).astype(np.uint8)


def scrolling(speed, top, height, width=200, frames=30):
    """A black screen with a trace in `height` rows that moves left by `speed` pixels a frame."""
    strip = trace(width + speed * frames, height)
    screen = np.zeros((frames, 160, width + 40), np.uint8)
    for t, frame in enumerate(screen):
        frame[top : top + height, 20 : 20 + width] = strip[:, t * speed : t * speed + width]
    return screen


@pytest.mark.parametrize("speed", [1, 4, 9])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_trace_that_scrolls(speed, mirrored):
    screen = scrolling(speed, top=50, height=90)
    assert modes.scrolls(screen[..., ::-1] if mirrored else screen)


def test_what_does_not_scroll():
    ecg = scrolling(3, top=140, height=18)  # one band of the eight
    assert not modes.scrolls(ecg)
    assert not modes.scrolls(fan_screen(1).frames)
    assert not modes.scrolls(np.maximum(ecg[:16, :, :200], fan_screen(1).frames[:, :160, :200]))
    assert not modes.scrolls(np.zeros((2, 64, 64), np.uint8))
    still = np.repeat(scrolling(1, 50, 90)[:1], 9, 0)
    assert not modes.scrolls(still)


TINTS = {
    "sepia": (0.8, 1.1, 1.8),
    "blue": (1.5, 1.1, 0.7),
    "gold": (0.7, 1.0, 2.2),
}


@pytest.mark.parametrize("tint", TINTS)
def test_a_tint_is_no_flow(tint):
    screen = fan_screen(2)
    levels = np.arange(256) / 255
    table = np.stack([255 * levels**power for power in TINTS[tint]], -1).astype(np.uint8)
    frames = table[screen.frames]
    assert (np.ptp(frames[:, screen.truth].astype(int), axis=-1) > modes.COLOURED).mean() > 0.3
    assert not modes.coloured(frames, screen.truth)
    rows, columns = np.nonzero(screen.truth)
    y, x = np.mgrid[:200, :260]
    jet = np.hypot(y - rows.mean(), x - columns.mean()) < 30
    grey = np.repeat(screen.frames[..., None], 3, -1)
    grey[:, jet & screen.truth] = (200, 60, 20)  # one hue, too, but grey tissue around it
    assert modes.coloured(grey, screen.truth)


def test_flow_in_few_frames_is_none():
    """The median frame decides: a flash in one of ten is an artefact."""
    screen = fan_screen(2)
    frames = np.repeat(screen.frames[..., None], 3, -1)
    frames[::10, screen.truth] = (200, 60, 20)
    assert not modes.coloured(frames, screen.truth)
    assert not modes.coloured(screen.frames, screen.truth)
