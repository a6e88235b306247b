"""Simulated prompts: where clicks land, what boxes hold, and that rough masks are wrong."""

import numpy as np
import pytest

from echofm_jax.pytorch import clicks
from echofm_jax.pytorch.prompt_encoder import NEGATIVE, NONE, POSITIVE

NOTHING = np.zeros((32, 32), bool)


def box(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    region = NOTHING.copy()
    region[slice(*rows), slice(*columns)] = True
    return region


def blobs(seed: int) -> np.ndarray:
    """Some overlapping boxes, a few of them at the edge."""
    rng = np.random.default_rng(seed)
    region = NOTHING.copy()
    for _ in range(4):
        (top, left), (high, wide) = rng.integers(0, 28, 2), rng.integers(2, 12, 2)
        region |= box((top, top + high), (left, left + wide))
    return region


def test_the_first_click_is_at_the_deepest_point():
    assert clicks.next_click(box((4, 13), (10, 25)), NOTHING) == (14, 8, POSITIVE)


def test_beyond_the_edge_is_outside():
    """Of a region that the frame cuts off, the middle, not the corner."""
    x, y, _ = clicks.next_click(box((0, 9), (0, 9)), NOTHING)
    assert (x, y) == (4, 4)
    assert clicks.depth(np.ones((5, 5), bool))[2, 2] == 3


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("drawn", [False, True])
def test_clicks_land_in_the_larger_error_and_say_which_it_is(seed: int, drawn: bool):
    truth, predicted = blobs(seed), blobs(seed + 100)
    rng = np.random.default_rng(seed) if drawn else None
    x, y, kind = clicks.next_click(truth, predicted, rng)
    deep = {POSITIVE: clicks.depth(truth & ~predicted), NEGATIVE: clicks.depth(predicted & ~truth)}
    assert deep[kind].max() == max(each.max() for each in deep.values())
    assert truth[y, x] == (kind == POSITIVE) != predicted[y, x]
    assert deep[kind][y, x] >= (0.5 if drawn else 1) * deep[kind].max()


def test_a_thick_error_is_larger_than_a_long_one():
    """However many pixels the long one has: few would see them."""
    truth, predicted = box((10, 17), (4, 11)), box((0, 4), (0, 32))
    assert predicted.sum() > truth.sum()
    assert clicks.next_click(truth, predicted) == (7, 13, POSITIVE)


def test_what_is_right_needs_no_click_and_training_clicks_vary():
    truth = box((4, 20), (6, 22))
    assert clicks.next_click(truth, truth)[2] == NONE
    rng = np.random.default_rng(0)
    assert len({clicks.next_click(truth, NOTHING, rng)[:2] for _ in range(20)}) > 10


def test_a_box_just_holds_its_structure_and_in_training_roughly():
    truth = box((0, 20), (6, 17))
    assert clicks.around(truth).tolist() == [6, 0, 16, 19]
    rng = np.random.default_rng(0)
    drawn = np.stack([clicks.around(truth, rng) for _ in range(300)])
    assert (drawn >= 0).all() and (drawn <= 31).all()
    assert (drawn[:, :2] <= drawn[:, 2:]).all()
    np.testing.assert_allclose(drawn[:, 2:].std(0), [1.0, 1.9], rtol=0.15)  # a tenth of the sides


def test_a_rough_mask_is_near_the_truth_and_wrong():
    truth = box((8, 22), (8, 22))
    rng = np.random.default_rng(0)
    overlaps = []
    for _ in range(50):
        found = clicks.rough(truth, rng)
        overlaps.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert 0.4 < np.mean(overlaps) < 0.9 and np.ptp(overlaps) > 0.3
