"""Where a simulated heart is measured: on the edges of its walls, across it."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.phantom_heart import Heart
from data_pipelines.phantom_image import simulate
from data_pipelines.phantom_points import measured_frames, named_points, thickness
from data_pipelines.records import LANDMARKS

SIZE = (240, 320)


def heart(seed: int, thick: bool = False) -> Heart:
    rng = np.random.default_rng(seed)
    return Heart.draw(rng).hypertrophic(rng) if thick else Heart.draw(rng)


@pytest.mark.parametrize("thick", [False, True])
def test_landmarks_lie_where_the_masks_change(thick):
    clip = simulate("PLAX", 4, SIZE, heart(4, thick))
    for frame in clip.end_diastole:
        points = clip.points[frame]
        along = np.linspace(-0.1, 1.1, 1000)[:, None]
        x, y = np.rint(points[0] + (points[3] - points[0]) * along).astype(int).T
        place = along[:, 0] * np.linalg.norm(points[3] - points[0])
        cavity = place[clip.masks["LV"][frame][y, x]]
        muscle = place[clip.masks["myocardium"][frame][y, x]]
        edges = [muscle.min(), cavity.min(), cavity.max(), muscle.max()]
        true = np.cumsum([0, *np.hypot(*np.diff(points, axis=0).T)])
        np.testing.assert_allclose(edges, true, atol=1.2)


def test_a_wall_is_about_as_thick_as_the_hearts_and_the_cavity_beats():
    own = heart(1, True)
    clip = simulate("PLAX", 1, SIZE, own)
    told = {int(frame): values for frame, values in thickness(clip).items()}
    assert 13 <= 10 * own.wall <= 20
    for frame in clip.end_diastole:
        if frame in told:
            assert told[frame]["ivs"] == pytest.approx(10 * own.wall, rel=0.1)
            assert told[frame]["lvpw"] == pytest.approx(told[frame]["ivs"], abs=0.01)
    # Fractional shortening belongs to the ejection fraction.
    widest, narrowest = (pick(values["lvid"] for values in told.values()) for pick in (max, min))
    share = 100 * (1 - narrowest / widest)
    assert 0.3 * own.ejection_fraction < share < 0.8 * own.ejection_fraction


def test_points_are_told_from_the_corner_of_what_a_file_shows():
    clip = simulate("PLAX", 2, SIZE, heart(2))
    whole = named_points(clip, (slice(None), slice(None)))
    part = named_points(clip, (slice(30, 200), slice(50, 300)))
    assert list(whole) == list(map(str, measured_frames(clip)))
    for frame, named in whole.items():
        assert tuple(named) == LANDMARKS
        for name, place in named.items():
            np.testing.assert_allclose(part[frame][name], np.subtract(place, (50, 30)), atol=1e-3)


def test_a_frame_whose_walls_leave_the_sector_is_not_measured():
    clip = simulate("PLAX", 2, SIZE, heart(2))
    frame = measured_frames(clip)[0]
    points = clip.points.copy()
    points[frame, 0] = (0, 0)  # the screen's corner
    points[measured_frames(clip)[1], 3] = (-5, 9999)
    cut = dataclasses.replace(clip, points=points)
    assert measured_frames(cut) == measured_frames(clip)[2:]


def test_other_views_have_none():
    assert simulate("A4C", 0, (64, 96)).points.shape[1:] == (0, 2)
