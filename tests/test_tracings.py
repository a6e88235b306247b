from pathlib import Path

import miniatures as mini
import numpy as np
import pytest

from data_pipelines.clip import Rejected
from data_pipelines.labels import Label, Tracing
from data_pipelines.records import STRUCTURES
from data_pipelines.tracings import label_maps


def traced(points, frame=0, structure="LV"):
    return Tracing(frame, structure, tuple(map(tuple, np.asarray(points).tolist())))


def maps(*tracings, shape=(40, 60)):
    return label_maps(Label(tracings=tracings), shape, Path())


def test_a_pixel_belongs_to_an_outline_that_holds_its_centre():
    """Against a rectangle by hand and ellipses by another algorithm, whole pixels and parts."""
    corners = [(9.6, 4.6), (20.4, 4.6), (20.4, 8.4), (9.6, 8.4)]
    (found,) = maps(traced(corners)).values()
    expected = np.zeros((40, 60), np.uint8)
    expected[5:9, 10:21] = 1
    assert found.dtype == np.uint8 and np.array_equal(found, expected)
    for radius in (3.3, 8.0, 20.7):
        polygon = mini.ellipse(radius, 120, 100)
        (found,) = maps(traced(polygon), shape=(120, 100)).values()
        wrong = found.astype(bool) ^ mini.inside(polygon, 120, 100)
        assert wrong.sum() <= 0.01 * found.sum() + 2


def test_structures_and_frames():
    square = np.array([(5, 5), (30, 5), (30, 30), (5, 30)])
    found = maps(traced(square, 3, "LA"), traced(square + 2, 3), traced(square, 7, "RA"))
    assert list(found) == [3, 7]
    assert set(np.unique(found[3])) == {0, 1, STRUCTURES.index("LA")}
    assert found[3][20, 20] == 1  # the later one lies on top
    assert set(np.unique(found[7])) == {0, STRUCTURES.index("RA")}
    assert maps() == {}


@pytest.mark.parametrize(
    ("points", "what"),
    [
        ([(5, 5), (61.1, 5), (30, 30)], "outside the image"),
        ([(5, 5), (30, 5), (30, 40.6)], "outside the image"),
        ([(-1.6, 5), (30, 5), (30, 30)], "outside the image"),
        ([(5, -200), (30, 5), (30, 30)], "outside the image"),
        ([(5, 5), (1e30, 5), (30, 30)], "outside the image"),
        ([(5, 5), (float("nan"), 5), (30, 30)], "no outline"),
        ([(5, 5), (9, 9)], "no outline"),
        ([], "no outline"),
    ],
)
def test_what_cannot_be_an_outline_is_refused(points, what):
    with pytest.raises(Rejected, match=what) as caught:
        maps(traced(points))
    assert caught.value.reason == "label_mismatch"


def test_an_outline_may_touch_the_border():
    (found,) = maps(traced([(-1.4, -1.4), (60.4, -1.4), (60.4, 40.4), (-1.4, 40.4)])).values()
    assert found.all()
