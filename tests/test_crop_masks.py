import numpy as np
import pytest

from data_pipelines.crop_masks import block_mask, image_masks, most_masked


@pytest.mark.parametrize("grid, count", [(16, 0), (16, 1), (16, 25), (16, 128), (4, 16), (1, 1)])
def test_a_mask_has_exactly_as_many_patches_as_asked_for(grid, count):
    for seed in range(20):
        mask = block_mask(grid, count, np.random.default_rng(seed))
        assert mask.shape == (grid, grid) and mask.sum() == count


def test_masks_are_blocks_and_not_single_patches():
    rng = np.random.default_rng(0)

    def edges(mask):  # neighbours of which one is masked and one is not
        return (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()

    blocks = np.array([edges(block_mask(16, 77, rng)) for _ in range(50)])
    single = np.array([edges(rng.permutation(256).reshape(16, 16) < 77) for _ in range(50)])
    assert blocks.mean() < 0.45 * single.mean()
    assert blocks.max() < single.min()


def test_every_patch_is_masked_at_times():
    rng = np.random.default_rng(1)
    mean = np.mean([block_mask(8, 20, rng) for _ in range(500)], 0)
    assert mean.min() > 0.05 and mean.max() < 0.6  # corners less than the middle


def test_one_of_two_crops_is_masked_within_the_static_bound():
    rng, ratio = np.random.default_rng(2), (0.1, 0.5)
    masks = np.stack([image_masks(16, ratio, rng) for _ in range(300)])
    assert masks.shape == (300, 2, 256) and masks.dtype == bool
    counts = masks.sum(2)
    assert (counts.min(1) == 0).all()  # the other is whole
    assert 0.4 < (counts[:, 0] > 0).mean() < 0.6
    of_image = counts.max(1)
    assert most_masked(256, ratio) == 128
    assert 25 <= of_image.min() < 35 and 120 < of_image.max() <= 128
    assert 70 < of_image.mean() < 83  # uniform in the ratio


@pytest.mark.parametrize(
    "grid, ratio, counts", [(2, (0.1, 0.5), {1, 2}), (16, (0.0, 0.0), {0}), (4, (0.29, 0.29), {4})]
)
def test_small_grids_and_single_ratios(grid, ratio, counts):
    rng = np.random.default_rng(3)
    found = {int(image_masks(grid, ratio, rng).sum()) for _ in range(50)}
    assert found <= counts and max(found) <= most_masked(grid * grid, ratio)
