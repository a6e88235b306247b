"""Colour Doppler of simulated hearts: flow where and when there is some, jets of leaking valves."""

import dataclasses
import functools

import numpy as np
import pytest

from data_pipelines import modes, records
from data_pipelines.phantom_colour import COLOUR_VIEWS, NYQUIST, colours
from data_pipelines.phantom_heart import Heart
from data_pipelines.phantom_image import simulate

SIZE = (120, 160)


@functools.cache
def clip(view="A4C", grade="none", colour=True):
    heart = dataclasses.replace(
        Heart.draw(np.random.default_rng(4)), aortic_regurgitation=grade, heart_rate=70,
        ejection_fraction=60,
    )  # fmt: skip
    return simulate(view, 1, SIZE, heart, colour)


def flow(clip) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [T, H, W] that come towards the probe, and that go away."""
    red, _, blue = np.moveaxis(clip.frames.astype(int), -1, 0)
    return (red > 60) & (blue == 0), (blue > 60) & (red == 0)


def mosaic(clip) -> np.ndarray:
    """Pixels [T, H, W - 1] whose neighbour moves the other way."""
    red, blue = flow(clip)
    return (red[..., 1:] & blue[..., :-1]) | (blue[..., 1:] & red[..., :-1])


def phases(clip):
    """Frames amid ejection, and frames of isovolumic relaxation and diastasis: nothing flows in."""
    systole = clip.times[:, None] - clip.r_waves
    amid = ((systole > 0.12) & (systole < 0.22)).any(1)
    rate = np.abs(np.gradient(clip.volumes, clip.times))
    rest = (rate < 20) & (np.abs(systole) > 0.1).all(1)
    return amid, rest


@pytest.mark.parametrize("view", COLOUR_VIEWS)
def test_colour_lies_in_blood_inside_a_box_and_nowhere_else(view):
    shown = clip(view)
    assert shown.frames.shape == (len(shown.times), *SIZE, 3) and shown.frames.dtype == np.uint8
    coloured = np.ptp(shown.frames, -1) > 0
    assert coloured.any((1, 2)).mean() > 0.5
    assert not coloured[:, ~shown.sector].any()
    assert not coloured[shown.masks["myocardium"]].any()
    assert modes.coloured(clip(view, "significant").frames, shown.sector)
    assert 20 <= shown.fps <= 30
    y, x = np.nonzero(coloured.any(0))
    sector_y, sector_x = np.nonzero(shown.sector)
    assert np.ptp(y) * np.ptp(x) < 0.5 * np.ptp(sector_y) * np.ptp(sector_x)


def test_inflow_comes_towards_the_probe_and_outflow_goes_away():
    shown = clip("A4C")
    red, blue = flow(shown)
    rate = np.gradient(shown.volumes, shown.times)
    filling, ejecting = rate > 0.3 * rate.max(), rate < 0.5 * rate.min()
    assert red[filling].sum() > 2 * blue[filling].sum()
    assert blue[ejecting].sum() > 2 * red[ejecting].sum()


@pytest.mark.parametrize("view", COLOUR_VIEWS)
def test_regurgitation_is_a_mosaic_in_diastole_that_grows_with_its_grade(view):
    seen, ejected = [], []
    for grade in records.GRADES:
        shown = clip(view, grade)
        assert shown.aortic_regurgitation == grade
        amid, rest = phases(shown)
        turbulent = mosaic(shown)
        seen.append(turbulent[rest].sum() / rest.sum())
        ejected.append(turbulent[amid].sum())
        if grade != "none":  # the jet is in the ventricle
            assert shown.masks["LV"][rest][:, :, 1:][turbulent[rest]].mean() > 0.7
    assert seen[0] < 1 and 5 < seen[1] < 0.5 * seen[2]
    assert len(set(ejected)) == 1  # in systole it makes no difference


def test_views_without_flow_in_their_plane_stay_grey():
    assert simulate("A2C", 0, (64, 80), colour=True).frames.ndim == 3
    assert clip(colour=False).frames.ndim == 3


def test_colours_tell_direction_and_speed():
    velocity = np.array([0.2, 0.5, -0.2, -0.5]) * NYQUIST
    slow, fast, away, fast_away = colours(velocity, np.zeros(4))
    assert slow[0] > 0 == slow[2] and away[2] > 0 == away[0]
    assert fast[1] > slow[1] and fast_away[1] > away[1]  # towards yellow and cyan
