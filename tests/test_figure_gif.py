"""GIFs: the clip's pace, true greys and colours, one size, both pages."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from echofm_jax import figure_gif
from echofm_jax.figure_theme import DARK, LIGHT, THEMES


def frames_of(path):
    """A GIF's frames [n, H, W, 3] int and their milliseconds [n]."""
    frames, milliseconds = [], []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
            milliseconds.append(image.info["duration"])
    return np.stack(frames), np.array(milliseconds)


def plays_for_ever(path):
    with Image.open(path) as image:
        return image.info["loop"] == 0


def test_a_gif_plays_at_the_clip_s_pace_on_both_pages(tmp_path):
    def draw(theme, kept):
        assert kept == [0, 1, 2]
        return [
            figure_gif.board(theme, f"{i}", [("one", Image.new("RGB", (60, 40), "red"))])
            for i in kept
        ]

    figure_gif.save_gif(tmp_path / "new" / "a.gif", draw, np.array([5.0, 5.1, 5.4]))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a-dark.gif", "a.gif"]
    for theme in THEMES:
        path = theme.path(tmp_path / "new" / "a.gif")
        frames, milliseconds = frames_of(path)
        assert plays_for_ever(path)
        assert milliseconds.tolist() == [100, 300, 200 + figure_gif.LAST]
        assert (frames[:, 0, 0] == ImageColor.getrgb(theme.page)).all()
        assert np.abs(frames[0] - frames[1]).max() > 100  # the heading counts
        assert (frames == [255, 0, 0]).all(-1).sum() == 3 * 60 * 40


def test_one_palette_keeps_greys_and_colours():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 40, 50, 1)).repeat(3, -1).astype(np.uint8)
    images[:, :10] = rng.integers(0, 256, (10, 50, 3))  # more colours than a palette holds
    images[:, 10:12] = ImageColor.getrgb(DARK.hidden)
    indexed = figure_gif.one_palette([Image.fromarray(image) for image in images], DARK)
    back = np.stack([np.asarray(image.convert("RGB")) for image in indexed]).astype(int)
    off = np.abs(back - images).max(-1)
    assert off[:, 12:].max() <= 2 and (off[:, 10:12] == 0).all()
    assert np.median(off[:, :10]) < 40
    assert all(image.getpalette() == indexed[0].getpalette() for image in indexed)


def test_enlarged_pixels_are_squares():
    frame = np.array([[0, 100], [200, 255]], np.uint8)
    image = np.asarray(figure_gif.enlarge(frame))
    assert image.shape == (224, 224, 3)
    assert (image[:112, :112] == 0).all() and (image[112:, :112] == 200).all()
    assert figure_gif.enlarge(np.zeros((112, 100), np.uint8)).size == (200, 224)
    assert figure_gif.enlarge(np.zeros((500, 400), np.uint8)).size == (400, 500)


def test_a_board_puts_each_caption_right_above_its_picture():
    tall, low = Image.new("RGB", (90, 120), "red"), Image.new("RGB", (70, 60), "lime")
    image = np.asarray(figure_gif.board(LIGHT, "Heading", [("", tall), ("two\nlines", low)]))
    red, green = ((image == colour).all(-1) for colour in ([255, 0, 0], [0, 255, 0]))
    assert red.sum() == 90 * 120 and green.sum() == 70 * 60  # nothing is covered
    first = np.flatnonzero(green.any(1))[0]
    text = (image < 128).all(-1)[:, 90 + 2 * figure_gif.GAP :]
    rows = np.flatnonzero(text[figure_gif.GAP + figure_gif.LINE :].any(1))
    above = first - (rows + figure_gif.GAP + figure_gif.LINE)
    assert 0 < above.min() < 12 and above.max() > figure_gif.LINE


@pytest.mark.parametrize(("seconds", "last"), [(0.1, 0.7), (float("nan"), 7 / 30)])
def test_without_a_frame_rate_thirty_frames_a_second_are_shown(seconds, last):
    assert figure_gif.pace(np.array([0, 3, 7]), seconds)[-1] == pytest.approx(last)
