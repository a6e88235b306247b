"""Masks: which positions are visible, how many, and in what order."""

import numpy as np
import pytest

from echofm_jax.masking import noise_shape, num_kept, split_tokens, token_mask

STEPS, POSITIONS = 4, 9


def split(kind: str, ratio: float, seed: int = 0):
    shape = (3, *noise_shape(kind, STEPS, POSITIONS))
    noise = np.random.default_rng(seed).random(shape, np.float32)
    visible, masked = map(np.asarray, split_tokens(noise, kind, STEPS, ratio))
    return noise, visible, masked


@pytest.mark.parametrize("kind", ["consistent", "random", "uniform_frame", "sector"])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75, 0.9])
def test_visible_and_masked_share_the_tokens_out(kind, ratio):
    _, visible, masked = split(kind, ratio)
    both = np.sort(np.concatenate([visible, masked], 1), 1)
    np.testing.assert_array_equal(both, np.tile(np.arange(STEPS * POSITIONS), (3, 1)))
    assert (np.diff(visible) > 0).all() and (np.diff(masked) > 0).all()


def test_consistent_masks_show_the_smallest_noise_in_every_step():
    noise, visible, _ = split("consistent", 0.6)
    kept = num_kept(POSITIONS, 0.6)
    by_step = visible.reshape(3, STEPS, kept)
    for row, steps in zip(noise, by_step, strict=True):
        for step, tokens in enumerate(steps):
            assert set(tokens - step * POSITIONS) == set(np.argsort(row)[:kept])


def test_uniform_frame_keeps_as_many_in_each_step_but_others():
    _, visible, _ = split("uniform_frame", 0.6)
    counts = [np.bincount(row // POSITIONS, minlength=STEPS) for row in visible]
    assert (np.array(counts) == num_kept(POSITIONS, 0.6)).all()
    per_step = visible[0].reshape(STEPS, -1) % POSITIONS
    assert len({tuple(sorted(step)) for step in per_step}) > 1


def test_random_masks_do_not_share_out_evenly():
    _, visible, _ = split("random", 0.75)
    counts = [np.bincount(row // POSITIONS, minlength=STEPS) for row in visible]
    assert np.ptp(counts) > 0 and visible.shape[1] == num_kept(STEPS * POSITIONS, 0.75)


def test_token_mask_is_one_where_masked():
    _, visible, masked = split("random", 0.5)
    mask = np.asarray(token_mask(visible, STEPS * POSITIONS))
    assert (np.take_along_axis(mask, visible, 1) == 0).all()
    assert (np.take_along_axis(mask, masked, 1) == 1).all()
