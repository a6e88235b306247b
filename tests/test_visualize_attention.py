"""Attention over frames: bright where the relevance is, nowhere else; times and pages."""

import numpy as np
import pytest
from test_figure_theme import close_to, pixels

from echofm_jax import visualize_attention
from echofm_jax.figure_theme import THEMES


def orange(image):
    """Where a glow lies on a grey frame, [H, W]."""
    return image[..., 0] - image[..., 2] > 60


def drawn(tmp_path, relevance, **options):
    clip = np.full((4 * len(relevance), 32, 32), 60, np.uint8)
    visualize_attention.attention_map(tmp_path / "a.png", clip, relevance, 0.1, **options)
    return [pixels(theme.path(tmp_path / "a.png")) for theme in THEMES]


def test_it_glows_where_the_relevance_is(tmp_path):
    relevance = np.full((4, 16), 0.5)
    relevance[2, 4] = 8.5  # third step, second row of patches, first column
    for theme, image in zip(THEMES, drawn(tmp_path, relevance), strict=True):
        frame = close_to(image, "#3c3c3c")
        columns = np.flatnonzero(frame[: image.shape[0] // 2].sum(0) > 50)
        left, right = columns[0], columns[-1]  # of the four frames
        glow = orange(image)[:, : right + 1]
        y, x = np.nonzero(glow)
        assert len(y) > 500
        assert left + 0.5 * (right - left) < x.min() < x.max() < left + 0.6 * (right - left)
        assert y.min() > image.shape[0] / 2
        assert orange(image)[:, right + 1 :].sum() > 500  # the scale
        assert close_to(image, theme.page).mean() > 0.2


def test_a_long_clip_shows_eight_steps_and_a_short_one_all(tmp_path):
    rng = np.random.default_rng(0)
    eight, sixteen, four = (drawn(tmp_path, rng.random((t, 4)))[0] for t in (8, 16, 4))
    assert eight.shape == sixteen.shape and four.shape[1] < 0.7 * eight.shape[1]


@pytest.mark.parametrize("option", [{"simulated": True}, {}])
def test_an_even_share_everywhere_is_no_error(tmp_path, option):
    assert drawn(tmp_path, np.ones((4, 4)), **option)[0].std() > 10


def test_a_simulated_clip_says_so(tmp_path):
    relevance = np.random.default_rng(0).random((4, 4))
    real = drawn(tmp_path, relevance)[0]
    simulated = drawn(tmp_path, relevance, simulated=True)[0]
    changed = np.flatnonzero((real != simulated).any((1, 2)))
    assert len(changed) and changed.max() < 0.1 * len(real)
