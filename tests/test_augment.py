import cv2
import numpy as np
import pytest

from data_pipelines.augment import Augment, augment_clip, draw_duration

SIZE = 64
y, x = np.mgrid[:SIZE, -SIZE // 2 : SIZE // 2]
SECTOR = (np.abs(np.arctan2(x, y + 1)) < 0.6) & (np.hypot(x, y) < SIZE)


def speckle(colour=False):
    texture = np.random.default_rng(0).integers(1, 255, (SIZE, SIZE, 3), np.uint8)
    clip = np.maximum(cv2.GaussianBlur(texture, (0, 0), 2).transpose(2, 0, 1), 1) * SECTOR
    return np.stack([clip] * 3, -1) if colour else clip.copy()


@pytest.mark.parametrize("colour", [False, True])
def test_the_sector_keeps_its_shape_and_stays_in_view_whole(colour):
    rng, areas = np.random.default_rng(0), []
    for _ in range(50):
        clip = speckle(colour)
        augment = Augment(scale=0.3, rotate=15, gain=0.3, gamma=0.3)
        inside = augment_clip(clip, SECTOR, rng, augment)
        assert not clip[:, ~inside].any()
        assert (clip[:, inside] > 0).mean() > 0.95
        areas.append(inside.sum() / SECTOR.sum())
        boxes = [cv2.minAreaRect(cv2.findNonZero(m.astype(np.uint8)))[1] for m in (inside, SECTOR)]
        scales = np.sort(boxes[0]) / np.sort(boxes[1])
        assert scales[0] == pytest.approx(scales[1], abs=0.08)  # the same shape
        assert areas[-1] == pytest.approx(scales.prod(), rel=0.1)  # all of it
    assert min(areas) < 0.6 and 0.75 < max(areas) < 1.03


def test_a_small_sector_may_grow_and_move():
    small = np.zeros((SIZE, SIZE), bool)
    small[20:40, 20:44] = True
    rng, sizes, rows = np.random.default_rng(1), [], []
    for _ in range(40):
        inside = augment_clip(speckle(), small, rng, Augment(scale=0.2))
        sizes.append(inside.sum() / small.sum())
        rows.append(np.flatnonzero(inside.any(1))[0])
    assert min(sizes) < 0.75 and max(sizes) > 1.3
    assert min(rows) < 17 and max(rows) > 23


def test_all_frames_are_changed_alike():
    clip = np.stack([speckle()[0]] * 5)
    augment_clip(clip, SECTOR, np.random.default_rng(2), Augment(scale=0.3, rotate=10, gain=0.2))
    assert (clip == clip[0]).all()
    assert not np.array_equal(clip[0], speckle()[0])


def test_an_unknown_sector_is_the_whole_frame():
    clip = np.full((2, SIZE, SIZE), 200, np.uint8)
    inside = augment_clip(clip, None, np.random.default_rng(3), Augment(rotate=20))
    assert clip.sum() / 200 / 2 == pytest.approx(inside.sum(), rel=0.05)
    assert inside.mean() < 0.95
    assert not inside[0, 0] and not inside[-1, -1]


def test_gain_and_gamma_keep_black_black_and_the_order_of_greys():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    means = []
    for seed in range(30):
        clip = levels.copy()
        rng = np.random.default_rng(seed)
        assert augment_clip(clip, None, rng, Augment(gain=0.3, gamma=0.5)) is None
        assert clip[0, 0, 0] == 0
        assert (np.diff(clip.reshape(-1).astype(int)) >= 0).all()
        means.append(clip.mean())
    assert min(means) < 110 and max(means) > 145


def test_nothing_is_drawn_and_nothing_changes_by_default():
    rng, clip = np.random.default_rng(4), speckle()
    before = rng.bit_generator.state
    assert augment_clip(clip, SECTOR, rng, Augment()) is SECTOR
    assert draw_duration(rng, Augment()) == 1
    assert rng.bit_generator.state == before
    assert np.array_equal(clip, speckle())


def test_windows_last_longer_as_often_as_shorter():
    rng = np.random.default_rng(5)
    drawn = np.array([draw_duration(rng, Augment(speed=0.5)) for _ in range(400)])
    assert 1 / 1.5 <= drawn.min() < 0.7 and 1.45 < drawn.max() <= 1.5
    assert abs((drawn > 1).mean() - 0.5) < 0.1


@pytest.mark.parametrize("field, value", [("scale", 1.0), ("rotate", -1), ("gain", float("nan"))])
def test_impossible_values_are_named(field, value):
    (problem,) = Augment(**{field: value}).problems()
    assert problem.startswith(f"augment.{field}={value}")
