"""The beating clip: its frames, the matched frames beside them, the path and the point on it."""

import numpy as np
import pytest
from test_figure_gif import frames_of
from test_figure_theme import close_to
from test_recordings import beating_frames

from echofm_jax import visualize_trajectory
from echofm_jax.figure_gif import LAST
from echofm_jax.figure_theme import LIGHT, THEMES
from echofm_jax.visualize_trajectory import path_panel, principal_plane, trajectory

TUBELET, BEAT, COUNT = 4, 12, 36  # frames; three beats
STARTS = np.arange(0, COUNT - TUBELET + 1, 2)
SIDE = 224  # of a picture of 32 pixels


def inputs(**changes):
    """A recording of three beats whose embeddings go around; each step's match is a beat away."""
    turns = np.arange(COUNT) / BEAT
    middle = (STARTS + (TUBELET - 1) / 2) / BEAT
    z = np.stack([np.cos(2 * np.pi * middle), 0.5 * np.sin(2 * np.pi * middle)], 1)
    z = z @ np.random.default_rng(0).normal(size=(2, 16))
    same = np.arange(len(STARTS)) + BEAT // 2
    same = np.where(same < len(STARTS), same, same - BEAT)
    return {
        "frames": beating_frames(turns),
        "starts": STARTS,
        "tubelet": TUBELET,
        "z": z,
        "same_phase": same,
        "seconds_per_step": 0.1,
        "beats": middle,
    } | changes


def pictures(shown):
    """The recording and the match of each GIF frame, [n, 32, 32] each."""
    left = slice(8, 8 + SIDE)
    right = slice(shown.shape[2] - 8 - SIDE, shown.shape[2] - 8)
    rows = np.flatnonzero((np.ptp(shown[0, :, left], axis=1) > 0).any(1))
    bottom = rows[-1] + 1
    return [shown[:, bottom - SIDE : bottom, side][:, 3::7, 3::7, 0] for side in (left, right)]


def test_recording_and_match_play_frame_by_frame(tmp_path):
    given = inputs()
    trajectory(tmp_path / "new" / "a.gif", **given)
    assert len(list((tmp_path / "new").iterdir())) == 2
    for theme in THEMES:
        shown, milliseconds = frames_of(theme.path(tmp_path / "new" / "a.gif"))
        assert milliseconds.tolist() == [50] * (COUNT - 1) + [50 + LAST]
        recording, match = pictures(shown)
        assert np.abs(recording - given["frames"]).max() <= 2
        there = np.arange(COUNT) + np.where(np.arange(COUNT) < 22, BEAT, -BEAT)
        near = [np.abs(match[i] - given["frames"][there[i]]).max() <= 2 for i in range(COUNT)]
        assert np.mean(near) > 0.9  # about where matches turn back, either beat
        assert (shown[:, 0, 0] == shown[0, 0, 0]).all() and close_to(shown[0, 0], theme.page).all()


def test_the_point_moves_along_the_path(tmp_path):
    trajectory(tmp_path / "a.gif", **inputs())
    shown, _ = frames_of(tmp_path / "a.gif")
    panel = shown[:, 60:, 8 + SIDE : -8 - SIDE]
    moved = [(panel[i] != panel[i + 1]).any(-1) for i in range(2, COUNT - 3)]
    assert all(20 < change.sum() < 2000 for change in moved)  # two rings, nothing else
    beat_apart = (panel[5] != panel[5 + BEAT]).any(-1).sum()
    assert beat_apart < 0.3 * (panel[5] != panel[5 + BEAT // 2]).any(-1).sum()


def test_without_a_match_the_right_side_is_dark_and_says_so(tmp_path):
    trajectory(tmp_path / "a.gif", **inputs(same_phase=np.full(len(STARTS), -1)))
    shown, _ = frames_of(tmp_path / "a.gif")
    recording, match = pictures(shown)
    assert (match == 0).all() and recording.max() > 100
    captions = shown[:, 27:60, -SIDE:]
    assert (captions[0] < 128).any() and (captions == captions[0]).all()


def test_phase_and_time_colour_the_path(tmp_path):
    given = inputs()
    plane, shares = principal_plane(given["z"])
    times = np.arange(len(plane)) * 0.1
    unknown = np.full(len(plane), np.nan)
    panels = [
        path_panel(LIGHT, plane, shares, beats, times, "s") for beats in (given["beats"], unknown)
    ]
    for (panel, to_pixels), colours in zip(
        panels, (LIGHT.phase_map()(given["beats"] % 1), LIGHT.time_map()(times / times[-1])),
        strict=True,
    ):  # fmt: skip
        image = np.asarray(panel).astype(int)
        x, y = np.rint(to_pixels(plane[-1])).astype(int)  # drawn last, so on top
        assert np.abs(image[y, x] - 255 * colours[-1, :3]).max() < 3
    assert panels[0][0].size == panels[1][0].size


def test_principal_plane():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    z = 5 + rng.normal(size=(300, 6)) * [3, 2, 0.1, 0.1, 0.1, 0.1] @ directions
    plane, shares = principal_plane(z)
    assert plane.std(0) == pytest.approx([3, 2], rel=0.15) and plane.mean(0) == pytest.approx(0)
    assert shares == pytest.approx([9 / 13, 4 / 13], abs=0.05)
    still, none = principal_plane(np.ones((8, 6)))
    assert (still == 0).all() and (none == 0).all()


def test_unknown_rate_and_phase(tmp_path):
    nothing = np.full(len(STARTS), np.nan)
    given = inputs(seconds_per_step=float("nan"), beats=nothing)
    trajectory(tmp_path / "a.gif", **given)
    shown, milliseconds = frames_of(tmp_path / "a.gif")
    assert len(shown) == COUNT and milliseconds.sum() - LAST == pytest.approx(1200, abs=11)
    assert np.abs(pictures(shown)[0] - given["frames"]).max() <= 2


def test_a_simulated_heart_says_so(tmp_path):
    some = {name: value[:4] if np.ndim(value) else value for name, value in inputs().items()}
    some |= {"frames": inputs()["frames"], "same_phase": np.array([2, 3, 0, 1])}
    for simulated in (False, True):
        trajectory(tmp_path / f"{simulated}.gif", **some, simulated=simulated)
    real, simulated = (frames_of(tmp_path / f"{said}.gif")[0] for said in (False, True))
    assert (real != simulated)[:, :27].any() and (real == simulated)[:, 27:].all()


def test_panel_size_is_as_said():
    plane = np.random.default_rng(0).normal(size=(9, 2))
    panel, _ = path_panel(LIGHT, plane, np.array([0.6, 0.3]), plane[:, 0], plane[:, 0], "s")
    inches, dpi = visualize_trajectory.INCHES, visualize_trajectory.DPI
    assert panel.size == (round(inches[0] * dpi), round(inches[1] * dpi))
