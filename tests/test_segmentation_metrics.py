"""Dice, IoU and Hausdorff distance of hand-made label maps, and their summary."""

import numpy as np
import pytest

from echofm_jax.pytorch.segmentation_metrics import measure, summarise

UNKNOWN = (np.nan, np.nan)


def box(rows: tuple[int, int], columns: tuple[int, int], value: int = 1) -> np.ndarray:
    labels = np.zeros((20, 20), np.uint8)
    labels[slice(*rows), slice(*columns)] = value
    return labels


def test_values_of_boxes_that_are_shifted_are_those_by_hand():
    """Two columns aside, 2 mm each; three rows down, pixels of unknown size."""
    truth = np.stack([box((5, 10), (5, 10))] * 2)
    predicted = np.stack([box((5, 10), (7, 12)), box((8, 13), (5, 10))])
    found = measure(predicted, truth, np.array([(0.5, 2.0), UNKNOWN]), 2)
    np.testing.assert_allclose(found["dice"][:, 0], [30 / 50, 20 / 50], rtol=1e-6)
    np.testing.assert_allclose(found["iou"][:, 0], [15 / 35, 10 / 40], rtol=1e-6)
    np.testing.assert_allclose(found["hausdorff95_mm"][:, 0], [4.0, np.nan])
    np.testing.assert_allclose(found["hausdorff95_pixels"][:, 0], [np.nan, 3.0])
    np.testing.assert_array_equal(found["missed"][:, 0], [0, 0])


def test_rows_and_columns_have_their_own_spacing():
    truth, predicted = box((5, 10), (5, 10))[None], box((7, 12), (5, 10))[None]
    found = measure(predicted, truth, np.array([(0.5, 2.0)]), 2)
    assert found["hausdorff95_mm"][0, 0] == pytest.approx(1.0)


def test_one_pixel_far_away_is_not_in_the_95th_percentile():
    truth, predicted = box((2, 14), (2, 14))[None], box((2, 14), (2, 14))[None].copy()
    predicted[0, 19, 19] = 1
    found = measure(predicted, truth, np.ones((1, 2)), 2)
    assert found["hausdorff95_mm"][0, 0] == 0


def test_what_is_not_there_is_not_measured_and_what_is_not_found_is_counted():
    truth = np.stack([box((5, 10), (5, 10)), box((5, 10), (5, 10)), np.zeros((20, 20))])
    predicted = np.stack([box((5, 10), (5, 10), 2), box((5, 10), (5, 10)), box((1, 3), (1, 3))])
    found = measure(predicted, truth, np.ones((3, 2)), 3)
    np.testing.assert_array_equal(found["dice"], [[0, np.nan], [1, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(found["missed"][:, 0], [1, 0, np.nan])
    np.testing.assert_array_equal(found["hausdorff95_mm"][:, 0], [np.nan, 0, np.nan])
    scores = summarise(found, ["a", "b", "c"], ("background", "LV", "LA"))
    assert scores["dice_LV"].value == scores["dice"].value == 0.5
    assert scores["hausdorff95_mm_LV"].value == 0
    assert set(scores) == {"dice", "iou", "dice_LV", "iou_LV", "hausdorff95_mm_LV"}


def test_intervals_are_over_patients():
    """Ten frames of one patient are one draw: the interval is as wide as two patients make it."""
    scores = np.r_[np.full(10, 0.9), 0.5][:, None]
    measured = {"dice": scores, "missed": np.zeros_like(scores)}
    found = summarise(measured, ["a"] * 10 + ["b"], ("background", "LV"))["dice_LV"]
    assert found == pytest.approx((9.5 / 11, 0.5, 0.9))
