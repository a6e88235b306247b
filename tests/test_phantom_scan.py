"""The scan of a simulated heart: what moves, what stays, what fades, what decorrelates."""

import cv2
import numpy as np
import pytest

from data_pipelines.phantom_fan import Fan
from data_pipelines.phantom_heart import Heart
from data_pipelines.phantom_image import VIEWS
from data_pipelines.phantom_long_axis import LongAxis
from data_pipelines.phantom_scan import Moments, gain, scan
from data_pipelines.phantom_short_axis import LEVELS, ShortAxis

SIZE = (200, 260)
HEART = Heart.draw(np.random.default_rng(0))


def scanned(shift, turn, seed=0):
    """A heart that does not beat, under a probe that moves: frames, sector, and its fan."""
    rng = np.random.default_rng(seed)
    still = np.zeros(len(turn))
    fan = Fan.draw("A4C", HEART, SIZE, rng)
    moments = Moments(still, still, still, np.array(shift, float), np.array(turn, float))
    return scan(LongAxis(HEART, "A4C"), fan, SIZE, moments, rng), fan


def alike(a, b, where) -> float:
    return float(np.corrcoef(a[where], b[where])[0, 1])


def test_speckle_decorrelates_as_the_plane_turns_away():
    found, _ = scanned(np.zeros((4, 2)), [0, 0.1, 0.8, 1.57])
    muscle = found.labels[0] == 5
    near, far, gone = (alike(found.frames[0], frame, muscle) for frame in found.frames[1:])
    assert near > far + 0.1 > gone + 0.2
    assert near > 0.75


def test_a_breath_moves_the_whole_heart():
    centimetre = 1.0
    found, fan = scanned([[0, 0], [0, centimetre]], [0, 0])
    rows = [np.argwhere(labels == 2).mean(0) for labels in found.labels]  # left atrium
    moved = np.linalg.norm(rows[1] - rows[0])
    assert moved == pytest.approx(centimetre * fan.pixels, rel=0.25)


def test_clutter_near_the_face_stays_where_it_is():
    near, deep = [], []
    for seed in range(8):
        found, _ = scanned([[0, 0], [0.6, 0.6]], [0, 1.57], seed)
        first = np.flatnonzero(found.sector.any(1))[0]
        row = np.arange(SIZE[0])[:, None] - first
        # Without the shading of the whole picture, which stays anyway.
        share = np.maximum(cv2.blur(found.sector.astype(np.float32), (9, 9)), 0.1)
        speckle = [f - cv2.blur(f, (9, 9)) / share for f in found.frames.astype(np.float32)]
        near.append(alike(*speckle, found.sector & (row < 10)))
        outside = found.sector & (found.labels == 0).all(0)
        deep.append(alike(*speckle, outside & (row > 100)))
    assert np.mean(near) > 0.1 > 0.05 > np.mean(deep)


def test_gain_fades_with_depth_drops_out_and_throws_shadows():
    fan = Fan.draw("A4C", HEART, SIZE, np.random.default_rng(0))
    ranges, angles = fan.beams()
    levels = [gain(fan, ranges, angles, np.random.default_rng(seed)) for seed in range(60)]
    middle = angles.size // 2
    fading = [
        level[: len(ranges) // 4, middle].mean() - level[-10:, middle].mean() for level in levels
    ]
    assert np.mean(fading) > 3  # dB
    assert np.ptp([level.mean() for level in levels]) > 4  # gain that is set high and low
    # A shadow weakens a sector's wedge down to its end; without one, beams differ smoothly.
    steps = [np.abs(np.diff(level[-1, 6:-6])).max() for level in levels]
    assert 5 < sum(step > 1 for step in steps) < 30


@pytest.mark.parametrize("view", LEVELS)
def test_the_apex_turns_counter_clockwise_and_the_base_clockwise(view):
    shape = ShortAxis(HEART, view)
    radius = shape.cavity + 0.3
    u, v, systole = np.full((1, 1, 1), radius), np.zeros((1, 1, 1)), np.ones(1)
    rest_u, rest_v = shape.origins(u, v, systole)
    came_from = np.rad2deg(
        np.arctan2(rest_v, rest_u)
    ).item()  # v points down: clockwise is positive
    assert np.sign(-came_from) == {"PSAX_MV": 1, "PSAX_PM": -1, "PSAX_AP": -1}[view]
    assert abs(came_from) < 15


@pytest.mark.parametrize("view", VIEWS)
def test_screen_and_heart_agree_on_places(view):
    fan = Fan.draw(view, HEART, SIZE, np.random.default_rng(1))
    u, v = np.array([0.0, 1.5, -2.0]), np.array([0.5, 3.0, 6.0])
    np.testing.assert_allclose(fan.to_heart(*fan.from_heart(u, v)), (u, v), atol=1e-9)
