"""Figures: whole files, the panels they promise, nothing half-written, simulated data named."""

import numpy as np
import pytest
from PIL import Image

from echofm_jax import phase, visualize


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def close_to(image, colour):
    return (np.abs(image - np.array(colour)) < 12).all(-1)


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    original = rng.random((8, 32, 32))
    keep = np.kron(rng.random((4, 4)) < 0.4, np.ones((8, 8))) > 0
    return original, np.where(keep, original, np.nan), np.where(keep, original, 0.5)


def test_reconstruction_shows_the_hidden_patches_in_the_middle_row_only(tmp_path, frames):
    path = tmp_path / "figures" / "reconstruction.png"
    visualize.reconstruction(path, *frames, seconds=np.arange(8) * 0.1)
    image = pixels(path)
    hidden = close_to(image, (0xC9, 0xD3, 0xDC)).sum(1)
    third = len(image) // 3
    assert hidden[third : 2 * third + 20].sum() > 0.95 * hidden.sum() > 1000
    assert image.shape[1] > image.shape[0] * 2
    assert [file.name for file in path.parent.iterdir()] == ["reconstruction.png"]


def test_a_simulated_clip_says_so(tmp_path, frames):
    for simulated in (False, True):
        path = tmp_path / f"{simulated}.png"
        visualize.reconstruction(path, *frames, seconds=np.arange(8) * 0.1, simulated=simulated)
    real, simulated = pixels(tmp_path / "False.png"), pixels(tmp_path / "True.png")
    changed = np.flatnonzero((real != simulated).any((1, 2)))
    assert len(changed) and changed.max() < 0.1 * len(real)  # the title, and nothing else


def test_similarity_maps_show_both_maps_and_both_lag_curves(tmp_path):
    turns = 2 * np.pi * np.arange(90) / 30
    z = np.stack([np.cos(turns), np.sin(turns)], 1)
    noisy = z + 0.5 * np.random.default_rng(0).normal(size=z.shape)
    S, P = phase.similarity(z), phase.similarity(noisy)
    visualize.similarity_maps(tmp_path / "plain.png", S, P, 1 / 30)
    visualize.similarity_maps(tmp_path / "beats.png", S, P, 1 / 30, beats=np.arange(90) / 30)
    plain, marked = pixels(tmp_path / "plain.png"), pixels(tmp_path / "beats.png")
    third = plain.shape[1] // 3
    reds = close_to(plain, (0x67, 0x00, 0x1F)).sum(0)  # cosine 1 of the colour map
    assert reds[:third].sum() > 500 and reds[third : 2 * third].sum() > 50
    for colour in (visualize.BLUE, visualize.ORANGE):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert close_to(plain, rgb)[:, 2 * third :].sum() > 100
    darker = close_to(marked, (0, 0, 0)).sum() - close_to(plain, (0, 0, 0)).sum()
    assert darker > 200  # the dotted end-diastoles


def test_similarity_maps_of_one_short_window(tmp_path):
    S = phase.similarity(np.random.default_rng(0).normal(size=(8, 4)))
    visualize.similarity_maps(tmp_path / "short.png", S, S, 4 / 30, beats=np.full(8, np.nan))
    assert pixels(tmp_path / "short.png").std() > 10


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


def test_a_step_logged_again_after_resume_counts_once(tmp_path):
    once = [{"step": step, "loss": 1.0 / step} for step in range(1, 20)]
    visualize.loss_curves(tmp_path / "once.png", once)
    visualize.loss_curves(tmp_path / "twice.png", [{"step": 5, "loss": 9.0}, *once])
    assert (pixels(tmp_path / "once.png") == pixels(tmp_path / "twice.png")).all()
