"""A beating recording, its path through embedding space, and the same phase in another beat."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from echofm_jax import figure_theme
from echofm_jax.figure_gif import board, enlarge, pace, save_gif
from echofm_jax.figure_theme import Theme, moment

INCHES, DPI = (3.9, 2.9), 100  # of the panel in the middle


def trajectory(
    path: Path,
    frames: np.ndarray,
    starts: np.ndarray,
    tubelet: int,
    z: np.ndarray,
    same_phase: np.ndarray,
    seconds_per_step: float,
    beats: np.ndarray,
    simulated: bool = False,
) -> None:
    """Left the recording plays, in the middle it moves through embedding space, right its match.

    Every frame belongs to the step whose middle is nearest; the right side shows the frame in the
    same place of the step that looks most alike in another beat.

    Args:
      path: GIF to write.
      frames: [n, H, W] uint8.
      starts: [m] first frame of each step, evenly spaced.
      tubelet: frames of a step.
      z: [m, D] frame embeddings.
      same_phase: [m] each step's match (`phase.same_phase_retrieval`), -1 for none.
      seconds_per_step: nan where the frame rate is not known; it then plays 30 frames a second.
      beats: [m] `phase.step_beat_time`, to colour the path by phase; where none is known it is
        coloured by time.
      simulated: the recording comes from the phantom.
    """
    seconds = seconds_per_step / (starts[1] - starts[0])
    step, unit = figure_theme.time_unit(seconds, "frames")
    index = np.arange(starts[0], starts[-1] + tubelet)  # [k] frames that a step covers
    middles = starts + (tubelet - 1) / 2
    nearest = np.abs(index[:, None] - middles).argmin(axis=1)  # [k]
    plane, shares = principal_plane(z)
    along = np.stack([np.interp(index, middles, axis) for axis in plane.T], 1)  # [k, 2]
    heading = figure_theme.headed("Most alike in another beat, by frame embeddings", simulated)

    def lag(count: int) -> str:
        return f"lag {count * step:+.2f} s" if unit == "s" else f"lag {count:+d}"

    def phase_at(which: int) -> str:
        return f"phase {beats[which] % 1:.2f}" if np.isfinite(beats[which]) else ""

    def draw(theme: Theme, kept: list[int]) -> list[Image.Image]:
        panel, to_pixels = path_panel(theme, plane, shares, beats, middles * step, unit)
        pictures = []
        for i in kept:
            now, own, match = index[i], nearest[i], same_phase[nearest[i]]
            place, other = panel.copy(), np.zeros_like(frames[0])
            caption = "no match in another beat\n"
            if match >= 0:
                mark(theme, place, to_pixels(plane[match]), filled=False)
                then = min(now + starts[match] - starts[own], len(frames) - 1)
                other = frames[then]
                caption = f"○ match: {moment(then, seconds)}, {lag(then - now)}\n{phase_at(match)}"
            mark(theme, place, to_pixels(along[i]), filled=True)
            recording = f"● recording: {moment(now, seconds)}\n{phase_at(own)}"
            columns = [
                (recording, enlarge(frames[now])),
                ("frame embeddings, PCA", place),
                (caption, enlarge(other)),
            ]
            pictures.append(board(theme, heading, columns))
        return pictures

    save_gif(path, draw, pace(index, seconds))


def principal_plane(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [m, D] → first two principal components [m, 2], their shares of variance [2]."""
    z = np.asarray(z, np.float64)
    left, spread, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    shares = spread**2 / np.maximum((spread**2).sum(), 1e-12)
    return left[:, :2] * spread[:2], shares[:2]


def path_panel(
    theme: Theme,
    plane: np.ndarray,
    shares: np.ndarray,
    beats: np.ndarray,
    times: np.ndarray,
    unit: str,
) -> tuple[Image.Image, Callable[[np.ndarray], np.ndarray]]:
    """The path [m, 2] with its axes, and a function from a point of it [2] to pixels (x, y)."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    phase_known = np.isfinite(beats).any()
    with rc_context(theme.rc() | {"font.size": 8.5}):
        figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
        axis = figure.add_subplot()
        axis.plot(*plane.T, color=theme.faint, lw=0.7, alpha=0.6)
        points = axis.scatter(
            *plane.T, s=26, plotnonfinite=True, zorder=3, c=beats % 1 if phase_known else times,
            cmap=theme.phase_map() if phase_known else theme.time_map(),
            vmin=0, vmax=1 if phase_known else None,
        )  # fmt: skip
        bar = figure.colorbar(points, ax=axis, pad=0.02)
        bar.set_label("phase (0 and 1: end-diastole)" if phase_known else f"time ({unit})")
        for set_label, place, share in zip(
            (axis.set_xlabel, axis.set_ylabel), (1, 2), shares, strict=True
        ):
            set_label(f"component {place} ({share:.0%} of variance)")
        axis.set(xticks=[], yticks=[])
        axis.margins(0.1)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    panel = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    def to_pixels(point: np.ndarray) -> np.ndarray:
        x, y = axis.transData.transform(point)
        return np.array([x, panel.height - y])

    return panel, to_pixels


def mark(theme: Theme, panel: Image.Image, at: np.ndarray, *, filled: bool) -> None:
    """A ring around a point of the path, with a dot in it if `filled`."""
    ink, page = (ImageColor.getrgb(colour) for colour in (theme.ink, theme.page))
    pen = ImageDraw.Draw(panel)
    pen.circle(at, 8, outline=page, width=5)
    pen.circle(at, 7, outline=ink, width=2)
    if filled:
        pen.circle(at, 4, fill=ink)
