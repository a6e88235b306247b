"""Fans found in pixels, and what they cost."""

import cv2
import numpy as np
import pytest

from data_pipelines import fan_fit
from data_pipelines.fan import fan_mask, polar

SHAPE = 120, 160
FANS = {
    "symmetric": (80, 4, -0.7, 0.7, 6, 100),
    "steered": (60, 6, -0.2, 0.9, 5, 95),
    "curved array": (80, -40, -0.5, 0.5, 60, 150),
    "cut off at both sides": (80, 4, -0.9, 0.9, 4, 112),
}
fans = pytest.mark.parametrize("geometry", FANS.values(), ids=FANS)


@fans
def test_a_mask_holds_the_pixels_between_the_angles_and_the_radii(geometry):
    angle, radius = polar(np.array(geometry), *SHAPE)
    _, _, left, right, near, far = geometry
    inside = (angle >= left) & (angle <= right) & (radius >= near) & (radius <= far)
    assert (fan_mask(np.array(geometry), *SHAPE) == inside).all()


@fans
def test_a_cost_is_the_sum_over_the_pixels_inside(geometry):
    rng = np.random.default_rng(0)
    active = fan_mask(np.array(geometry), *SHAPE)
    moved = geometry + rng.normal(size=(20, 6)) * (3, 3, 0.05, 0.05, 2, 3)
    found = fan_fit.costs(moved, fan_fit.row_sums(active), 0.0)
    worth = np.where(active, -1, fan_fit.DARK)
    summed = [worth[fan_mask(one, *SHAPE)].sum() for one in moved]
    np.testing.assert_allclose(found, summed, atol=0.02 * active.sum())


def test_a_steered_fan_costs_more_and_what_is_no_fan_nothing():
    sums = fan_fit.row_sums(fan_mask(np.array(FANS["steered"]), *SHAPE))
    some = np.array([FANS["symmetric"], FANS["steered"], (80, 4, 0.7, -0.7, 6, 100)])
    dearer = fan_fit.costs(some, sums, 50.0) - fan_fit.costs(some, sums, 0.0)
    np.testing.assert_allclose(dearer, [0, 50, 0], atol=0.01)
    assert fan_fit.costs(some, sums, 50.0)[2] == 0


@fans
def test_crossings_are_those_of_one_fan(geometry):
    heights = np.array([30.0, 80.0])
    crossings = fan_fit.to_crossings(np.array(geometry, float), heights)
    np.testing.assert_allclose(fan_fit.from_crossings(crossings[None], heights)[0], geometry)
    left, right, lower_left, lower_right, *rows = crossings
    upwards = np.array([lower_left, lower_right, left, right, *rows])
    assert not fan_fit.from_crossings(upwards[None], heights).any()


@fans
def test_a_fan_is_found_in_its_own_pixels(geometry):
    truth = fan_mask(np.array(geometry), *SHAPE)
    found = fan_mask(fan_fit.fit_fan(truth), *SHAPE)
    assert (found & truth).sum() > 0.98 * (found | truth).sum()


def test_a_start_that_is_far_off_comes_near():
    truth = np.array(FANS["symmetric"], float)
    active = fan_mask(truth, *SHAPE)
    start = truth + np.array([9, -6, 0.1, 0.15, 4, 12])
    sums, heights = fan_fit.row_sums(active), np.array([25.0, 75.0])
    found, cost = fan_fit.descend(start, sums, heights, 0.0, (4.0, 0.5))
    assert cost < -0.98 * active.sum()
    np.testing.assert_allclose(found[:2], truth[:2], atol=2)


def drawn(corners):
    pixels = np.zeros(SHAPE, np.uint8)
    cv2.fillPoly(pixels, [np.array(corners, np.int32)], 1)
    return pixels > 0


@pytest.mark.parametrize(
    "active",
    [
        np.hypot(*np.meshgrid(np.arange(-80, 80), np.arange(-60, 60))) < 45,
        drawn([(20, 20), (140, 20), (140, 100), (20, 100)]),
        fan_mask(np.array([20, 20, 0.5, 1.2, 4, 120]), *SHAPE),  # a fan, but it looks aside
        drawn([(20, 100), (140, 100), (80, 20), (80, 90)]),
    ],
    ids=["disc", "rectangle", "aside", "arrow"],
)
def test_what_is_no_fan_is_none(active):
    assert fan_fit.fit_fan(active) is None
