"""View map: made-up views apart, fitted on train alone, views that train lacks named."""

import numpy as np
import pytest
from test_figure_theme import close_to, pixels

from echofm_jax.figure_theme import LIGHT, THEMES
from echofm_jax.visualize_views import Plane, view_map

VIEWS = ("A2C", "A4C", "PLAX")


def clips(seed, per_view, width=64, views=VIEWS):
    """Views apart in a few dimensions, and far wider noise in another that says nothing."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(len(views), width))
    names = np.repeat(np.arange(len(views)), per_view)
    features = centres[names] + 0.7 * rng.normal(size=(len(names), width))
    features[:, 0] = 30 * rng.normal(size=len(names))
    return features.astype(np.float32), [views[i] for i in names]


def nearest_mean(plane, train, test):
    """Share of test clips whose view's training mean is the nearest one on the map."""
    at, known = plane.of(train[0]), np.array(train[1])
    means = np.stack([at[known == view].mean(0) for view in VIEWS])
    off = np.linalg.norm(plane.of(test[0])[:, None] - means, axis=-1)
    return np.mean(np.array(VIEWS)[off.argmin(1)] == test[1])


@pytest.mark.parametrize("per_view", [10, 200])  # fewer clips than dimensions, and more
def test_views_lie_apart_on_clips_that_were_not_fitted(per_view):
    train, test = clips(0, per_view), clips(1, 100)
    plane = Plane(*train)
    assert nearest_mean(plane, train, test) > 0.95
    at = plane.of(train[0])
    within = [at[i : i + per_view].std(0) for i in range(0, len(at), per_view)]
    assert np.mean(within, 0) == pytest.approx([1, 1], abs=0.6 if per_view == 10 else 0.2)


def test_without_views_in_the_features_nothing_lies_apart():
    rng = np.random.default_rng(0)
    names = list(np.repeat(VIEWS, 10))
    train, test = (rng.normal(size=(30, 256)), names), (rng.normal(size=(30, 256)), names)
    assert nearest_mean(Plane(*train), train, test) < 0.6


def test_two_views_have_one_discriminant_and_the_widest_spread():
    rng = np.random.default_rng(0)
    features, names = rng.normal(size=(400, 8)), ["A4C", "PLAX"] * 200
    features[1::2, 0] += 8
    common = rng.normal(size=400)  # says nothing of the view
    features[:, 5:] += 4 * common[:, None]
    at = Plane(features, names).of(features)
    apart = np.abs(at[::2].mean(0) - at[1::2].mean(0))
    assert apart[0] > 5 and apart[1] < 0.3
    assert at[:, 1].std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.corrcoef(at[:, 1], common)[0, 1]) > 0.95


def test_the_map_shows_held_out_clips_in_their_colours(tmp_path):
    train, test = clips(0, 20), clips(1, 30)
    view_map(tmp_path / "a.png", train, test, "test", simulated=True)
    view_map(tmp_path / "fewer.png", train, (test[0][30:], test[1][30:]), "test", simulated=True)
    for theme in THEMES:
        image, fewer = (pixels(theme.path(tmp_path / name)) for name in ("a.png", "fewer.png"))
        for colour in theme.series[:3]:
            assert close_to(image, colour).sum() > 500
        # Without A2C in test, its training mean is all that is left of it.
        first = [close_to(drawn, theme.series[0]).sum() for drawn in (image, fewer)]
        assert first[1] < 0.5 * first[0]
        assert close_to(image, theme.page).mean() > 0.7


def test_the_plane_knows_nothing_of_the_clips_it_shows(tmp_path):
    train, test = clips(0, 20), clips(1, 30)
    mixed = (test[0], list(np.random.default_rng(2).permutation(test[1])))
    for name, shown in (("true", test), ("mixed", mixed)):
        view_map(tmp_path / f"{name}.png", train, shown, "test")
    true, mixed = pixels(tmp_path / "true.png"), pixels(tmp_path / "mixed.png")
    left = np.flatnonzero(close_to(true, LIGHT.ink).mean(0) > 0.5)[0]  # of the axes
    assert (true != mixed)[:, left:].any()
    assert (true == mixed)[:, :left].all()  # the scale: clips lie where they lay


def test_views_that_train_lacks_are_left_out_and_named(tmp_path):
    train, test = clips(0, 20), clips(1, 30)
    other = (test[0], ["PSAX" if view == "PLAX" else view for view in test[1]])
    unknown = (test[0], ["" if view == "PLAX" else view for view in test[1]])
    for name, shown in (("other", other), ("unknown", unknown)):
        view_map(tmp_path / f"{name}.png", train, shown, "test")
    other, unknown = pixels(tmp_path / "other.png"), pixels(tmp_path / "unknown.png")
    top = [np.flatnonzero(close_to(i, LIGHT.ink).mean(1) > 0.5)[0] for i in (other, unknown)]
    assert top[0] > top[1] + 12  # one more line in the caption above the axes
    assert close_to(other, LIGHT.series[2]).sum() == pytest.approx(
        close_to(unknown, LIGHT.series[2]).sum(), rel=0.1
    )  # PLAX has its mean and its line of the legend, no clip


def test_nothing_is_written_without_two_views_or_a_clip(tmp_path):
    train, test = clips(0, 5), clips(1, 5)
    view_map(tmp_path / "a.png", (train[0][:5], train[1][:5]), test, "test")
    view_map(tmp_path / "a.png", train, (test[0], ["PSAX"] * 15), "test")
    view_map(tmp_path / "a.png", (train[0], [""] * 15), test, "test")
    assert not list(tmp_path.iterdir())
