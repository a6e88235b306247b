"""Dice after clicks by structure, what is reached without looking, and the one left out."""

import numpy as np
import pytest

from echofm_jax.pytorch import interactive_metrics as metrics


def test_masks_against_truth_by_hand():
    truth = np.zeros((2, 8, 8), bool)
    truth[:, 2:6, 2:6] = True
    masks = truth.copy()
    masks[0, :, 4:] = False
    dice, iou = metrics.overlap(masks, truth)
    np.testing.assert_allclose(dice, [2 * 8 / 24, 1])
    np.testing.assert_allclose(iou, [0.5, 1])


def test_what_somebody_draws_who_looks_at_no_pixel():
    disc = metrics.disc(20, 11, 200, 40)
    assert disc.sum() == pytest.approx(200, rel=0.05)
    rows, columns = np.nonzero(disc)
    assert (rows.mean(), columns.mean()) == (11, 20)
    ellipse = metrics.ellipse(np.array([3, 10, 22, 17]), 40)
    rows, columns = np.nonzero(ellipse)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (3, 22, 10, 17)
    assert ellipse.sum() == pytest.approx(np.pi * 10 * 4, rel=0.05)


def test_a_structure_left_out_is_told_apart_and_in_no_mean():
    rows = [(0, 0, "LV"), (0, 0, "LA"), (1, 0, "LV"), (1, 0, "RV"), (2, 0, "RV")]
    value = np.array([0.8, 0.5, 0.6, 0.1, 0.3])
    told = metrics.Measured(
        rows=rows, dice=value[:, None] + np.arange(5) / 100, box=value / 2,
        off=np.tile([[0.1], [-0.1], [0.1], [9], [9]], 6), iou=np.tile(value[:, None], 6),
        disc=value / 4, ellipse=value / 5,
    )  # fmt: skip
    scores, blind = metrics.summarise(told, ["a", "a", "b", "b", "c"], ("LV", "LA"), "RV")
    assert scores["dice_after_1_LV"].value == pytest.approx(0.7)
    assert scores["dice_after_5_LV"].value == pytest.approx(0.74)
    assert scores["dice_after_1_LV"][1:] == pytest.approx((0.6, 0.8))  # of patients
    assert scores["dice_after_1"].value == pytest.approx((0.7 + 0.5) / 2)  # of structures
    assert scores["dice_from_box_LA"].value == pytest.approx(0.25)
    assert scores["zero_shot_dice_after_1_RV"].value == pytest.approx(0.2)
    assert "dice_after_1_RV" not in scores
    assert scores["quality_error"].value == pytest.approx(0.1)
    assert blind["dice_after_3_LV"] == pytest.approx(0.7 / 4)
    assert blind["dice_from_box_LV"] == pytest.approx(0.7 / 5)
    assert blind["zero_shot_dice_after_1_RV"] == pytest.approx(0.05)
    assert blind["quality_error"] == pytest.approx(np.abs(value[:3] - value[:3].mean()).mean())
    assert set(blind) == set(scores)
