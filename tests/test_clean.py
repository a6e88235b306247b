"""Cleaning: what is stored lies inside the sector, square, in the colours asked for."""

import cv2
import numpy as np
import pytest
from conftest import SAMPLES
from test_sector import fan_screen, needs_samples

from data_pipelines import readers
from data_pipelines.clean import clean
from data_pipelines.clip import Clip, Rejected


def clip(frames, mode=""):
    return Clip(frames=frames, times=None, fps_source="unknown", mode=mode)


def test_frames_are_square_and_black_outside_the_sector():
    cleaned = clean(clip(fan_screen(1).frames), size=96, colour=False)
    assert cleaned.frames.shape == (16, 96, 96) and cleaned.frames.dtype == np.uint8
    assert cleaned.sector.shape == (96, 96) and cleaned.sector.dtype == bool
    assert cleaned.frames[:, ~cleaned.sector].max() == 0
    assert cleaned.frames[:, cleaned.sector].mean() > 20
    assert cleaned.mode == "b_mode"


def test_a_mask_goes_where_its_pixels_go():
    frames = fan_screen(1).frames.copy()
    inside = np.argwhere(fan_screen(1).truth)
    y, x = inside.mean(0).round().astype(int)
    truth = np.zeros(frames.shape[1:], np.uint8)
    truth[y - 9 : y + 10, x - 9 : x + 10] = 3
    frames[:, truth == 3] = 255
    cleaned = clean(clip(frames), size=96, colour=False)
    placed = cleaned.place(truth)
    assert set(np.unique(placed)) == {0, 3}
    bright = cleaned.frames.min(0) > 150
    assert (bright & (placed == 3)).sum() / (bright | (placed == 3)).sum() > 0.85
    assert cleaned.spacing((0.5, 0.25)).dtype == np.float32
    rows, columns = cleaned.spacing((0.5, 0.25))
    assert rows == 2 * columns
    assert (placed == 3).sum() * rows * columns == pytest.approx(19**2 * 0.5 * 0.25, rel=0.1)


def test_the_aspect_is_kept():
    screen = fan_screen(1)
    cleaned = clean(clip(screen.frames), size=96, colour=False)
    height, width = (np.ptp(np.flatnonzero(screen.truth.any(axis))) for axis in (1, 0))
    small = [np.ptp(np.flatnonzero(cleaned.sector.any(axis))) for axis in (1, 0)]
    assert small[0] / small[1] == pytest.approx(height / width, rel=0.06)
    assert max(small) >= 92


def coloured(screen, inside: bool):
    """The screen in RGB with a red jet in the sector, or a blue banner around it."""
    frames = np.repeat(screen.frames[..., None], 3, -1)
    if inside:
        rows, columns = np.nonzero(screen.truth)
        jet = np.hypot(*(np.mgrid[:200, :260] - np.array([[[rows.mean()]], [[columns.mean()]]])))
        frames[:, (jet < 20) & screen.truth] = (220, 40, 20)
    else:
        frames[:, 40:150, :14] = (10, 30, 240)
    return frames


@pytest.mark.parametrize(("inside", "mode"), [(True, "colour_doppler"), (False, "b_mode")])
def test_only_colour_inside_the_sector_is_doppler(inside, mode):
    frames = coloured(fan_screen(2), inside)
    assert clean(clip(frames), size=64, colour=False).mode == mode


def test_the_headers_mode_is_believed():
    frames = fan_screen(2).frames
    assert clean(clip(frames, "colour_doppler"), size=64, colour=False).mode == "colour_doppler"


def test_colour_is_kept_when_asked_for():
    cleaned = clean(clip(coloured(fan_screen(2), True)), size=64, colour=True)
    assert cleaned.frames.shape == (16, 64, 64, 3)
    red = cleaned.frames[..., 0].astype(int) - cleaned.frames[..., 2]
    assert red.max() > 100 and cleaned.frames[:, ~cleaned.sector].max() == 0


def test_nothing_is_kept_of_a_screen_without_sector():
    with pytest.raises(Rejected):
        clean(clip(np.zeros((8, 100, 100), np.uint8)), size=64, colour=False)


@needs_samples
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("volunteer_a4c.mov", "b_mode"),
        ("sonosite_a4c_ybr422_jpeg.dcm", "b_mode"),
        ("acuson_colour_doppler_rgb.dcm", "colour_doppler"),
        ("plax_colour_doppler_palette_rle.dcm", "colour_doppler"),
    ],
)
def test_modes_of_real_clips(name, mode):
    read = readers.read(SAMPLES / name)
    assert clean(read, size=112, colour=False).mode == mode
    assert cv2.getNumThreads() == 1
