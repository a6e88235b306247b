"""Pictures of answers hold the numbers that they are of, however few there are."""

import types

import numpy as np
import pytest

from echofm_jax import figure_theme
from echofm_jax.pytorch import clip_figures

THEME = figure_theme.LIGHT
NAMES = ("none", "mild", "severe")
TOLD = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
TRUTH = np.array([0, 1, 2, 1])


def test_confusion_counts_truth_down_answers_across():
    (axes,) = clip_figures.confusion(THEME, TOLD, TRUTH, NAMES).axes
    counts = {
        (int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in axes.texts
    }
    assert counts == {(0, 0): "1", (1, 1): "1", (1, 0): "1", (2, 1): "1"}
    shares = axes.images[0].get_array()
    assert shares.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(NAMES)


def test_roc_of_classes_that_some_have():
    (axes,) = clip_figures.roc(THEME, TOLD, TRUTH, NAMES).axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["none: 1.00", "mild: 0.75", "severe: 1.00"]
    (axes,) = clip_figures.roc(THEME, TOLD, np.zeros(4, int), NAMES).axes
    assert axes.get_legend() is None


def test_bland_altman():
    told, truth = np.array([50.0, 62.0, 57.0]), np.array([52.0, 58.0, 55.0])
    (axes,) = clip_figures.bland_altman(THEME, told, truth, "%").axes
    points, *lines = axes.lines
    assert points.get_xydata().tolist() == [[51, -2], [60, 4], [56, 2]]
    spread = np.std([-2, 4, 2], ddof=1)
    heights = [line.get_ydata()[0] for line in lines]
    np.testing.assert_allclose(heights, 4 / 3 + 1.96 * spread * np.array([0, -1, 1]))


def test_truth_and_answer():
    (axes,) = clip_figures.scatter(THEME, np.array([50.0, 62.0]), np.array([52.0, 58.0]), "%").axes
    assert axes.lines[0].get_xydata().tolist() == [[50, 50], [62, 62]]
    assert axes.lines[1].get_xydata().tolist() == [[52, 50], [58, 62]]


def test_losses():
    history = [{"epoch": 1, "loss": 2.0, "score": -3.0}, {"epoch": 2, "loss": 1.0, "score": -2.5}]
    (axes,) = clip_figures.losses(THEME, history).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[2.0, 1.0], [3.0, 2.5]]


@pytest.mark.parametrize("task", ["number", "classes"])
@pytest.mark.parametrize("count", [1, 4])
def test_all_are_written_for_both_pages(tmp_path, task, count):
    number = task == "number"
    run = types.SimpleNamespace(
        folder=tmp_path, target="valve_grade", task=task, outputs=("%",) if number else NAMES,
        simulated=True,
    )  # fmt: skip
    told = np.full((count, 1), 55.0) if number else TOLD[:count]
    truth = np.full(count, 55.0) if number else TRUTH[:count]
    clip_figures.draw(run, told, truth, ["p"] * count, [{"epoch": 1, "loss": 2.0, "score": -3.0}])
    names = {"answers", "bland_altman"} if number else {"confusion", "roc"}
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        f"{name}{dark}.png" for name in names | {"learning"} for dark in ("", "-dark")
    }
