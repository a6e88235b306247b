import dataclasses

import numpy as np
import pytest

from data_pipelines.crop_looks import change, draw_looks
from data_pipelines.crops import Crops

PLAIN = Crops(gain=0, gamma=0, blur=0, speckle=0)


def drawn(crops, times=400):
    rng = np.random.default_rng(0)
    return [draw_looks(crops, rng) for _ in range(times)]


def changed(image, crops, i=0, seed=0):
    rng, crop = np.random.default_rng(seed), image.copy()
    change(crop, draw_looks(crops, rng), i, crops, rng)
    return crop


def test_nothing_changes_where_all_is_left_out():
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    for i in range(10):
        assert np.array_equal(changed(image, PLAIN, i), image)


def test_the_two_global_crops_are_blurred_and_speckled_unlike():
    looks = drawn(Crops())
    blurred = np.mean([look.blurs > 0 for look in looks], 0)
    speckled = np.mean([look.speckled for look in looks], 0)
    assert blurred[0] == 1 and 0.05 < blurred[1] < 0.15 and np.allclose(blurred[2:], 0.5, atol=0.1)
    assert speckled[0] == 0 and 0.12 < speckled[1] < 0.28 and not speckled[2:].any()
    widths = np.stack([look.blurs for look in looks])
    assert 1.9 < widths.max() <= 2


def test_gain_and_gamma_keep_black_and_the_order_of_greys():
    tables = np.stack([look.tables for look in drawn(Crops())]).reshape(-1, 256).astype(int)
    assert not tables[:, 0].any()
    assert (np.diff(tables) >= 0).all()
    same = (tables == np.arange(256)).all(1).mean()
    assert 0.15 < same < 0.26  # the chance is 0.8
    brightest = np.stack(
        [look.tables for look in drawn(dataclasses.replace(PLAIN, gain=0.4))]
    ).reshape(-1, 256)[:, 100]
    assert 60 <= brightest.min() < 65 and 135 < brightest.max() <= 140
    power = np.stack(
        [look.tables for look in drawn(dataclasses.replace(PLAIN, gamma=0.4))]
    ).reshape(-1, 256)
    assert (power[:, 255] == 255).all()
    assert power[:, 100].min() < 72 and power[:, 100].max() > 125


def test_blur_smooths_and_speckle_roughens():
    image = np.random.default_rng(1).integers(80, 160, (56, 56)).astype(np.uint8)
    blur = dataclasses.replace(PLAIN, blur=2.0)
    assert np.std(changed(image, blur)) < 0.8 * image.std()
    flat = np.full((56, 56), 100, np.uint8)
    flat[:, :20] = 0
    speckle = dataclasses.replace(PLAIN, speckle=0.2, speckle_chance=(1, 0, 0))
    noisy = changed(flat, speckle)
    assert not noisy[:, :20].any()  # black stays black
    assert noisy[:, 20:].std() == pytest.approx(20, rel=0.1)
    assert noisy[:, 20:].mean() == pytest.approx(100, abs=2)


def test_colours_of_a_pixel_are_speckled_alike():
    image = np.full((28, 28, 3), (200, 100, 50), np.uint8)
    speckle = dataclasses.replace(PLAIN, speckle=0.1, speckle_chance=(1, 0, 0))
    noisy = changed(image, speckle).astype(float)
    assert noisy[..., 1].std() > 5
    assert np.abs(noisy[..., 0] - 2 * noisy[..., 1])[noisy[..., 0] < 255].max() <= 1.5
