"""Similarity maps and loss curves: the panels they promise, on both pages; simulated data named."""

import numpy as np
from test_figure_theme import close_to, pixels

from echofm_jax import phase, visualize
from echofm_jax.figure_theme import DARK, LIGHT, THEMES


def test_similarity_maps_show_both_maps_and_both_lag_curves(tmp_path):
    turns = 2 * np.pi * np.arange(90) / 30
    z = np.stack([np.cos(turns), np.sin(turns)], 1)
    noisy = z + 0.5 * np.random.default_rng(0).normal(size=z.shape)
    S, P = phase.similarity(z), phase.similarity(noisy)
    visualize.similarity_maps(tmp_path / "plain.png", S, P, 1 / 30)
    visualize.similarity_maps(tmp_path / "beats.png", S, P, 1 / 30, beats=np.arange(90) / 30)
    for theme, most_alike in ((LIGHT, "#67001f"), (DARK, "#ffadad")):  # cosine 1
        plain, marked = (pixels(theme.path(tmp_path / name)) for name in ("plain.png", "beats.png"))
        third = plain.shape[1] // 3
        alike = close_to(plain, most_alike).sum(0)
        assert alike[:third].sum() > 500 and alike[third : 2 * third].sum() > 50
        for colour in theme.series[:2]:
            assert close_to(plain, colour)[:, 2 * third :].sum() > 100
        dotted = (plain != marked).any(-1)[60:]  # the end-diastoles
        assert dotted[:, :third].sum() > 500 and dotted[:, 2 * third :].sum() == 0
        assert close_to(plain, theme.page).mean() > 0.25


def test_similarity_maps_of_one_short_window(tmp_path):
    S = phase.similarity(np.random.default_rng(0).normal(size=(8, 4)))
    visualize.similarity_maps(tmp_path / "short.png", S, S, 4 / 30, beats=np.full(8, np.nan))
    assert pixels(tmp_path / "short.png").std() > 10


def test_similarity_maps_of_a_simulated_heart_say_so(tmp_path):
    S = phase.similarity(np.random.default_rng(0).normal(size=(8, 4)))
    for simulated in (False, True):
        visualize.similarity_maps(tmp_path / f"{simulated}.png", S, S, 0.1, simulated=simulated)
    real, simulated = pixels(tmp_path / "False.png"), pixels(tmp_path / "True.png")
    changed = np.flatnonzero((real != simulated).any((1, 2)))
    assert len(changed) and changed.max() < 0.1 * len(real)  # the title, and nothing else


def test_loss_curves_have_a_panel_for_each_figure_that_was_logged(tmp_path):
    records = [
        {"step": step, "loss": 1.0 / step, "recon": 1.0 / step, "grad_norm": 1.0, "lr": 1e-4}
        for step in range(1, 20)
    ]
    visualize.loss_curves(tmp_path / "four.png", records)
    visualize.loss_curves(tmp_path / "two.png", [{"step": 1, "loss": 1.0, "lr": 1e-4}])
    evaluated = [*records, {"step": 9, "val/loss": 0.5, "val/triplet_active": 1.0}]
    visualize.loss_curves(tmp_path / "with_evaluation.png", evaluated)
    four, two = pixels(tmp_path / "four.png"), pixels(tmp_path / "two.png")
    assert four.shape[0] > 1.5 * two.shape[0] and four.shape[1] > 1.4 * two.shape[1]
    seen = pixels(tmp_path / "with_evaluation.png")
    assert seen.shape == four.shape
    changed = np.flatnonzero((seen != four).any(axis=(0, 2)))
    assert len(changed) and changed.max() < four.shape[1] / 2  # in the first of three panels
    for theme in THEMES:
        drawn = pixels(theme.path(tmp_path / "with_evaluation.png"))
        assert close_to(drawn, theme.page).mean() > 0.8
        training, held_out = (close_to(drawn, colour).sum() for colour in theme.series[:2])
        assert training > 400 and held_out > 20


def test_a_step_logged_again_after_resume_counts_once(tmp_path):
    once = [{"step": step, "loss": 1.0 / step} for step in range(1, 20)]
    visualize.loss_curves(tmp_path / "once.png", once)
    visualize.loss_curves(tmp_path / "twice.png", [{"step": 5, "loss": 9.0}, *once])
    assert (pixels(tmp_path / "once.png") == pixels(tmp_path / "twice.png")).all()
