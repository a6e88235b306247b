"""Errors of lengths and landmarks by phase and unit, and who is told to have thick walls."""

import numpy as np
import pytest

from echofm_jax.pytorch import scores
from echofm_jax.pytorch.hypertrophy_head import lengths
from echofm_jax.pytorch.hypertrophy_metrics import Truth, auroc, measure, summarise

NAN = float("nan")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(scores, "DRAWS", 50)


def truth(walls, spacing, diastole=None) -> Truth:
    """A frame a clip: septum and posterior wall of `walls` pixels, a cavity of 40."""
    y = np.cumsum([[10] * len(walls), walls, [40] * len(walls), walls], 0).T  # [n, 4]
    return Truth(
        points=np.stack([np.full_like(y, 30), y], -1).astype(float),
        spacing=np.array([[side, side] for side in spacing]),
        diastole=np.ones(len(walls), bool) if diastole is None else np.array(diastole),
        clip=np.arange(len(walls)),
        patients=[f"p{i}" for i in range(len(walls))],
    )


def test_each_unit_and_phase_by_itself():
    known = truth([10, 20, 8, 9], [0.5, 0.5, NAN, NAN], [True, False, True, False])
    places = known.points.copy()
    places[:, 3, 1] += 3  # the posterior wall looks thicker
    found = measure(known, places, lengths(places, known.spacing))
    assert found["lvpw_d_mae_mm"][0] == pytest.approx(1.5)
    assert found["lvpw_s_mae_mm"][1] == pytest.approx(1.5)
    assert found["lvpw_d_mae_pixels"][2] == found["lvpw_s_mae_pixels"][3] == pytest.approx(3)
    assert all(np.isfinite(found[f"lvpw_{a}_mae_{b}"]).sum() == 1
               for a in "ds" for b in ("mm", "pixels"))  # fmt: skip
    assert found["ivs_d_mae_mm"][0] == found["lvid_d_mae_mm"][0] == 0
    np.testing.assert_allclose(found["landmark_error_pixels"], 3 / 4)
    np.testing.assert_allclose(found["landmark_error_mm"], [3 / 8, 3 / 8, NAN, NAN])


def test_unknown_landmarks_count_for_nothing():
    known = truth([10, 20], [0.5, 0.5])
    known.points[0, 3] = NAN
    places = np.nan_to_num(known.points) + np.array([2.0, 0])
    told = summarise(known, places, lengths(places, known.spacing))
    assert told["landmark_error_pixels"].value == pytest.approx(2)
    assert told["lvpw_d_mae_mm"].value == pytest.approx(0)  # of the other frame
    assert "lvpw_s_mae_mm" not in told and "lvpw_d_mae_pixels" not in told
    assert "hypertrophy_auroc" not in told  # one clip whose walls are both known


def test_thick_walls_are_told_of_clips_with_both_kinds():
    walls = [16, 18, 24, 28, 30, 30]
    known = truth(walls, [0.5] * 5 + [NAN])  # 8, 9, 12, 14, 15 mm; and nobody knows
    told = known.lengths.copy()
    told[2] = 10.0  # one of the three is missed
    found = summarise(known, known.points, told)
    assert found["hypertrophy_auroc"].value == 1
    assert found["hypertrophy_sensitivity"].value == pytest.approx(2 / 3)
    assert found["hypertrophy_specificity"].value == 1
    assert found["hypertrophy_sensitivity"].low < 2 / 3
    blind = summarise(known, known.points, np.full_like(told, 11.5))
    assert blind["hypertrophy_auroc"].value == 0.5 and blind["hypertrophy_specificity"].value == 0
    assert "hypertrophy_auroc" not in summarise(
        truth([8, 9], [0.5, 0.5]), known.points[:2], told[:2]
    )


@pytest.mark.parametrize("wrong", [NAN, np.inf])
def test_answers_that_are_no_numbers_say_nothing_of_hypertrophy(wrong: float):
    """Neither a hit nor a miss; of nobody's answers there is no figure."""
    names = [f"hypertrophy_{name}" for name in ("auroc", "sensitivity", "specificity")]
    known = truth([16, 18, 28, 24], [0.5] * 4)  # 8, 9, 14, 12 mm
    told = known.lengths.copy()
    told[1] = 20.0  # taken for thick
    told[0, 0], told[3] = wrong, wrong
    found = summarise(known, known.points, told)
    assert [found[name].value for name in names] == [0, 1, 0]
    nothing = summarise(known, known.points, np.full_like(told, wrong))
    assert scores.strict([nothing[name].value for name in names]) == [None] * 3
    assert np.isnan(auroc(np.full(4, wrong), np.array([True, False, True, False])))
    assert auroc(np.array([1.0, wrong, 3.0]), np.array([False, False, True])) == 1


def test_frames_of_a_clip_are_one_answer():
    known = truth([20, 26, 16], [0.5] * 3)
    known.clip[:] = [0, 0, 1]  # 10 and 13 mm: on average thick
    found = summarise(known, known.points, known.lengths)
    assert found["hypertrophy_sensitivity"].value == found["hypertrophy_specificity"].value == 1


def test_the_area_under_the_curve_is_that_of_ranks():
    assert auroc(np.array([3.0, 9.0, 12.0, 30.0]), np.array([False, True, False, True])) == 0.75
    assert np.isnan(auroc(np.array([1.0, 2.0]), np.array([True, True])))
