import re

import cv2
import numpy as np
import pytest

from data_pipelines.crops import Crops, cut, draw_rectangles

SIZE = 112
y, x = np.mgrid[:SIZE, -SIZE // 2 : SIZE // 2]
SECTOR = ((np.abs(np.arctan2(x, y + 1)) < 0.6) & (np.hypot(x, y) < SIZE - 8)).astype(np.uint8)
BOX = np.array(cv2.boundingRect(SECTOR))


def rectangles(inside, crops, times=300, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([draw_rectangles(inside, crops, rng) for _ in range(times)])  # [times, n, 4]


def share(inside, rectangle):
    x, y, w, h = rectangle
    return inside[y : y + h, x : x + w].mean()


def test_crops_lie_in_the_sector_at_least_as_far_as_asked():
    for least in (0.5, 0.8):
        crops = Crops(inside=least, global_scale=(0.1, 0.5), local_scale=(0.05, 0.1))
        found = rectangles(SECTOR, crops, 100).reshape(-1, 4)
        shares = np.array([share(SECTOR, one) for one in found])
        assert (shares >= least).all()
        assert (shares < 1).any()  # its edge is looked at, too
    anywhere = rectangles(SECTOR, Crops(inside=0)).reshape(-1, 4)
    assert min(share(SECTOR, one) for one in anywhere) < 0.4


def test_areas_and_ratios_are_those_asked_for_of_the_sectors_box():
    found = rectangles(SECTOR, Crops())
    area = found[..., 2] * found[..., 3] / BOX[2] / BOX[3]
    ratio = found[..., 2] / found[..., 3]
    assert 0.3 < area[:, :2].min() < 0.4 and area[:, :2].max() > 0.8
    assert 0.045 < area[:, 2:].min() < 0.07 and 0.3 < area[:, 2:].max() < 0.335
    assert 0.7 < ratio.min() < 0.78 and 1.28 < ratio.max() < 1.4
    low, high = found[..., :2], found[..., :2] + found[..., 2:]
    assert (low >= BOX[:2]).all() and (high <= BOX[:2] + BOX[2:]).all()


def test_crops_come_from_all_over_the_sector():
    found = rectangles(SECTOR, Crops())[:, 2:].reshape(-1, 4)
    seen = np.zeros_like(SECTOR)
    for x, y, w, h in found:
        seen[y : y + h, x : x + w] = 1
    assert seen[SECTOR > 0].mean() > 0.99


def test_where_no_crop_fits_it_is_the_middle_of_the_box():
    ring = np.zeros((SIZE, SIZE), np.uint8)
    ring[10:90, 20:60] = 1
    ring[12:88, 22:58] = 0  # nothing holds half of it
    for x, y, w, h in rectangles(ring, Crops(), 5).reshape(-1, 4):
        assert abs(x + w / 2 - 40) <= 1 and abs(y + h / 2 - 50) <= 1
    tall = np.zeros((SIZE, SIZE), np.uint8)
    tall[:, 50:54] = 1
    assert (rectangles(tall, Crops(), 5)[..., 2] <= 4).all()  # all wider ones are cut off
    assert rectangles(np.zeros_like(tall), Crops(), 1).shape == (1, 10, 4)


@pytest.mark.parametrize("colour", [False, True])
def test_cutting_averages_areas_or_enlarges(colour):
    fine = np.where((x + y) % 2, 60, 180).astype(np.uint8)
    fine[:, : SIZE // 2] //= 2
    fine = np.stack([fine, fine, fine // 3], -1) if colour else fine
    out = np.empty((28, 28, *fine.shape[2:]), np.uint8)
    cut(fine, np.array([SIZE // 2, 0, 56, 56]), out)
    assert np.abs(out.astype(int)[(..., 0)[: 1 + colour]] - 120).max() <= 1
    cut(fine, np.array([SIZE // 2, 0, 10, 14]), out)
    assert out.shape[:2] == (28, 28) and len(np.unique(out)) > 10
    assert out[..., 2].mean() < 50 if colour else out.mean() > 100


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"local_size": 96}, "crops.local_size=96 is not divisible by crops.patch=14: choose 98"),
        ({"global_size": 230}, "crops.global_size=230 is not divisible by crops.patch=14"),
        ({"patch": 16, "local_size": 98}, "crops.local_size=98 .* choose 96"),
        ({"patch": 0}, "crops.patch=0 must be at least 1"),
        ({"local_crops": -1}, "crops.local_crops=-1"),
        ({"global_scale": (0.5, 0.2)}, r"crops.global_scale=\(0.5, 0.2\) is no range in"),
        ({"local_scale": (0.0, 0.2)}, "crops.local_scale"),
        ({"ratio": (0, 1)}, "crops.ratio"),
        ({"mask_ratio": (0.5, 1.0)}, "crops.mask_ratio"),
        ({"inside": 1.0}, "crops.inside=1.0"),
        ({"gain": float("nan")}, "crops.gain=nan"),
        ({"gamma": -1}, "crops.gamma=-1"),
        ({"blur": -0.1}, "crops.blur=-0.1"),
        ({"speckle": 2}, "crops.speckle=2"),
        ({"blur_chance": (1, 0.5, 1.1)}, "crops.blur_chance"),
        ({"speckle_chance": (-1, 0.5, 1)}, "crops.speckle_chance"),
        ({"levels_chance": 2}, "crops.levels_chance=2"),
    ],
)
def test_impossible_values_are_named(changes, problem):
    (found,) = Crops(**changes).problems()
    assert re.search(problem, found)


def test_the_defaults_and_those_of_patch_16_are_possible():
    assert not Crops().problems()
    assert not Crops(patch=16, local_size=96, local_crops=0, mask_ratio=(0, 0)).problems()
