"""Two themes: what stands on a page can be read there, and both files are whole."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageColor

from echofm_jax import compare_page, figure_theme
from echofm_jax.figure_theme import DARK, LIGHT, THEMES

# How a colour looks to those who lack a kind of cone: Machado et al. 2009, linear RGB.
BLIND = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def close_to(image, colour):
    return (np.abs(image - np.array(ImageColor.getrgb(colour))) < 12).all(-1)


def linear(colour):
    rgb = np.array(ImageColor.getrgb(colour)) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """WCAG 2: 1 to 21."""
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    """Linear RGB → CIE L*a*b*."""
    to_xyz = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    x, y, z = np.cbrt(np.clip(np.array(to_xyz) @ rgb, 1e-4, None) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_lines_stand_out_from_their_page(theme):
    assert contrast(theme.ink, theme.page) > 12 and contrast(theme.faint, theme.page) > 4.5
    assert min(contrast(colour, theme.page) for colour in theme.series) > 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("kind", BLIND)
def test_series_differ_to_the_colour_blind(theme, kind):
    seen = [lab(np.clip(np.array(BLIND[kind]) @ linear(c), 0, 1)) for c in theme.series]
    apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(apart) > 9  # 2 is just seen


def test_pages_are_those_of_the_comparison():
    for theme in THEMES:
        for colour in (theme.page, theme.ink):
            (r, g, b) = ImageColor.getrgb(colour)
            short = f"#{r >> 4:x}{g >> 4:x}{b >> 4:x}"
            assert colour in compare_page.STYLE or short in compare_page.STYLE


def test_phase_colours_go_around():
    for theme in THEMES:
        colours = theme.phase_map()(np.linspace(0, 1, 256))[:, :3]
        assert colours[0] == pytest.approx(colours[-1])
        assert np.abs(np.diff(colours, axis=0)).max() < 0.03
        assert np.abs(colours[0] - colours[128]).max() > 0.4


def test_save_draws_for_both_pages(tmp_path):
    def draw(theme):
        figure = figure_theme.figure(3, 2)
        figure.add_subplot().plot([0, 1], color=theme.series[0], lw=4)
        figure_theme.title(figure, "A title", simulated=True)
        return figure

    figure_theme.save(tmp_path / "new" / "line.png", draw)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["line-dark.png", "line.png"]
    for theme, name in zip((DARK, LIGHT), names, strict=True):
        image = pixels(tmp_path / "new" / name)
        assert image.shape == (260, 390, 3)
        assert close_to(image, theme.page).mean() > 0.8  # inside the axes and around them
        assert close_to(image, theme.series[0]).sum() > 500
        assert close_to(image[:40], theme.ink).sum() > 100  # the title


def test_moments_without_a_frame_rate_are_numbers_of_frames():
    assert figure_theme.moment(6, 0.05) == "0.30 s"
    assert figure_theme.moment(6, float("nan")) == "frame 6"
    assert figure_theme.time_unit(0.05, "steps") == (0.05, "s")
    assert figure_theme.time_unit(float("nan"), "steps") == (1.0, "steps")
