"""Reconstruction: hidden patches in the middle only, frames where they must be, at their pace."""

import numpy as np
import pytest
from test_figure_gif import frames_of
from test_figure_theme import close_to, pixels

from echofm_jax import visualize_clips
from echofm_jax.figure_gif import LAST
from echofm_jax.figure_theme import THEMES

INDEX = np.array([0, 4, 8, 13, 17, 22, 26, 31])  # target frames of a window of 32


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    original = rng.random((8, 32, 32))
    keep = np.kron(rng.random((4, 4)) < 0.4, np.ones((8, 8))) > 0
    return original, np.where(keep, original, np.nan), np.where(keep, original, 0.5)


def test_hidden_patches_show_in_the_middle_row_only(tmp_path, frames):
    visualize_clips.reconstruction(tmp_path / "new" / "a.png", *frames, INDEX, 0.1)
    assert len(list((tmp_path / "new").iterdir())) == 2
    for theme in THEMES:
        image = pixels(theme.path(tmp_path / "new" / "a.png"))
        hidden = close_to(image, theme.hidden).sum(1)
        third = len(image) // 3
        assert hidden[third : 2 * third + 20].sum() > 0.95 * hidden.sum() > 1000
        assert image.shape[1] > image.shape[0] * 2
        assert close_to(image, theme.page)[:20].mean() > 0.7


def test_a_simulated_clip_says_so(tmp_path, frames):
    two = [clip[:2] for clip in frames]
    for simulated in (False, True):
        path = tmp_path / f"{simulated}.png"
        visualize_clips.reconstruction(path, *two, INDEX[:2], 0.1, simulated)
        gif = path.with_suffix(".gif")
        visualize_clips.reconstruction_gif(gif, *two, INDEX[:2], 0.1, simulated)
    real, simulated = pixels(tmp_path / "False.png"), pixels(tmp_path / "True.png")
    changed = np.flatnonzero((real != simulated).any((1, 2)))
    assert len(changed) and changed.max() < 0.1 * len(real)  # the title, and nothing else
    real, simulated = (frames_of(tmp_path / f"{said}.gif")[0][0] for said in (False, True))
    assert (real != simulated)[:27].any() and (real == simulated)[27:].all()


def test_a_row_has_room_for_eight(tmp_path, frames):
    many = [np.tile(clip, (2, 1, 1)) for clip in frames]
    visualize_clips.reconstruction(tmp_path / "many.png", *many, np.arange(16), 0.1)
    assert pixels(tmp_path / "many.png").shape[1] < 8.5 * 1.25 * 130 + 130


def test_the_gif_plays_every_frame_three_times_over(tmp_path, frames):
    visualize_clips.reconstruction_gif(tmp_path / "a.gif", *frames, INDEX, 0.1)
    for theme in THEMES:
        shown, milliseconds = frames_of(theme.path(tmp_path / "a.gif"))
        assert milliseconds.tolist() == [400, 400, 500, 400, 500, 400, 500, 400 + LAST]
        bottom = shown.shape[1] - 8  # below lies the margin
        for column, clip in enumerate(frames):
            left = 8 + column * (224 + 8)
            picture = shown[:, bottom - 224 : bottom, left : left + 224]
            picture = picture[:, 3::7, 3::7]  # [8, 32, 32, 3]
            hidden = np.isnan(clip)
            assert close_to(picture, theme.hidden)[hidden].all()
            expected = np.rint(255 * clip[~hidden])
            assert np.abs(picture[~hidden] - expected[:, None]).max() <= 2
        headings = shown[:, :27]
        assert all((headings[i] != headings[i + 1]).any() for i in range(7))  # the time


def test_the_gif_is_small(tmp_path):
    rng = np.random.default_rng(0)
    original = rng.normal(0.4, 0.1, (8, 112, 112)).clip(0, 1)  # noise packs worse than any echo
    keep = np.kron(rng.random((7, 7)) < 0.25, np.ones((16, 16))) > 0
    masked = np.where(keep, original, np.nan)
    visualize_clips.reconstruction_gif(
        tmp_path / "a.gif", original, masked, np.nan_to_num(masked, nan=0.4), INDEX, 1 / 16
    )
    assert 50_000 < (tmp_path / "a.gif").stat().st_size < 500_000


def test_without_a_frame_rate_frames_are_numbered(tmp_path, frames):
    visualize_clips.reconstruction(tmp_path / "a.png", *frames, INDEX, float("nan"))
    visualize_clips.reconstruction_gif(tmp_path / "a.gif", *frames, INDEX, float("nan"))
    _, milliseconds = frames_of(tmp_path / "a.gif")
    assert milliseconds[:-1].sum() == pytest.approx(1000 * 26 / 30 + 1000 * 5 / 30, abs=11)
