"""The ultrasound sector of a clip: found, fitted with a geometry, and verified.

The result is an allow-list. Whatever lies outside – names, dates, rulers, ECG – is never looked
at, and a clip whose sector cannot be verified is refused.
"""

import dataclasses
import functools

import cv2
import numpy as np
from scipy import ndimage, optimize

from data_pipelines import modes
from data_pipelines.clip import Rejected

FRAMES, SIDE = 24, 160  # the search looks at so many frames, reduced to so many pixels
STILL, FLICKER = 1.0, 0.6  # grey levels: a still screen's deviation at most, tissue's above it
DARK = 0.5  # what a still pixel inside the fan costs, an active one being worth 1
EDGE = 0.3  # share of active pixels that a line of the sector's edge must have


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sector:
    """Where the image is, in pixels of the frames it was found in."""

    mask: np.ndarray  # [H, W] bool
    apex: tuple[float, float]  # x, y; may lie outside the picture
    angles: tuple[float, float]  # rad from straight down, left < right
    radii: tuple[float, float]  # of the transducer's face and of the deepest arc


def find_sector(frames: np.ndarray) -> Sector:
    """The sector of grey frames [T, H, W] uint8.

    Raises:
      Rejected: nothing moves like tissue, or what moves is no fan with a still screen around it.
        A picture that moves all over (a cropped clip, a flickering or noisy recording) has no
        edge that could be verified: text may stand anywhere in it.
    """
    height, width = frames.shape[1:]
    scale = min(1.0, SIDE / max(height, width))
    small = reduced(frames[np.linspace(0, len(frames) - 1, FRAMES).astype(int)], scale)
    active, others = activity(small)
    if active.mean() < 0.03:
        raise Rejected("no_sector", "too little of the picture moves")
    fan = fit_fan(active)
    if fan is None:
        refuse_traces(frames, scale)
        raise Rejected("no_sector", "what moves is no fan with a still screen around it")
    fan = refine(fan, active, others)
    inside = fan_mask(fan, *active.shape)
    if (others & ~inside).sum() > 0.25 * inside.sum():
        raise Rejected("m_mode_or_spectral", "a second moving picture beside the sector")
    geometry = fan / np.array([scale, scale, 1, 1, scale, scale])
    x, y, left, right, near, far = geometry.tolist()
    return Sector(
        mask=fan_mask(geometry, height, width),
        apex=(x, y),
        angles=(left, right),
        radii=(near, far),
    )


def reduced(frames: np.ndarray, scale: float) -> np.ndarray:
    """[T, H, W] → [T, h, w] float32, areas averaged."""
    resize = functools.partial(cv2.resize, dsize=None, fx=scale, fy=scale)
    return np.stack([resize(f, interpolation=cv2.INTER_AREA) for f in frames]).astype(np.float32)


def activity(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T, h, w] → where anything flickers, [h, w] bool: the largest connected part, and all.

    Inside a sector speckle varies even where the image is nearly black; around it the screen is
    still, but for text that compression makes flicker, and that is too thin to survive opening.
    """
    deviation = cv2.blur(small.std(0), (3, 3))
    still = min(float(np.percentile(deviation, 20)), STILL)
    opened = ndimage.binary_opening(deviation > still + FLICKER, np.ones((3, 3)), iterations=2)
    # Away from the picture's border: blurring widened what moves by a pixel.
    opened = ndimage.binary_erosion(opened, np.ones((3, 3)), border_value=1)
    labels, count = ndimage.label(opened)
    if not count:
        return opened, opened
    parts = ndimage.sum_labels(opened, labels, range(1, count + 1))
    return ndimage.binary_fill_holes(labels == 1 + np.argmax(parts)), opened


def polar(geometry: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Angle from straight down and radius of every pixel, seen from the apex."""
    y, x = np.mgrid[:height, :width]
    x, y = x - geometry[0], y - geometry[1]
    return np.arctan2(x, y), np.hypot(x, y)


def fan_mask(geometry: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels inside (apex x, apex y, left, right, near, far)."""
    angle, radius = polar(geometry, height, width)
    _, _, left, right, near, far = geometry
    return (angle >= left) & (angle <= right) & (radius >= near) & (radius <= far)


def fit_fan(active: np.ndarray) -> np.ndarray | None:
    """The fan that best separates active from still pixels, or None if none does it well."""
    height, width = active.shape
    weight = np.where(active, 1.0, -DARK)
    best, best_score = None, -np.inf
    for start in starts(active):
        found = optimize.minimize(
            cost, start, (weight,), method="Nelder-Mead",
            options={"maxfev": 700, "xatol": 0.02, "fatol": 1e-4,
                     "initial_simplex": simplex(start)},
        )  # fmt: skip
        if -found.fun > best_score:
            best, best_score = found.x, -found.fun
    inside = fan_mask(unfold(best), height, width)
    common = (inside & active).sum()
    opening = np.degrees(2 * best[2])
    if not 25 <= opening <= 140 or inside.mean() < 0.06:
        return None
    if common < 0.93 * active.sum() or common < 0.7 * inside.sum():
        return None
    # Its edges must show: a still screen lies around it.
    around = ~inside
    if around.mean() < 0.05 or (active & around).sum() > 0.3 * around.sum():
        return None
    return unfold(best)


def unfold(symmetric: np.ndarray) -> np.ndarray:
    """(apex x, apex y, half angle, near, far) → (apex x, apex y, left, right, near, far)."""
    x, y, half, near, far = symmetric
    return np.array([x, y, -half, half, near, far])


def starts(active: np.ndarray) -> list[np.ndarray]:
    """First guesses from the outline: edges as lines through the rows' ends."""
    rows = np.flatnonzero(active.any(1))
    columns = np.flatnonzero(active.any(0))
    top, bottom = rows[0], rows[-1]
    middle = (columns[0] + columns[-1]) / 2
    guesses = []
    for opening in (60, 80, 100):
        half = np.radians(opening) / 2
        spread = (columns[-1] - columns[0]) / 2
        apex = max(top - 0.15 * (bottom - top), bottom - spread / np.tan(half) * 1.15)
        apex = min(apex, top + 2)
        guesses.append(np.array([middle, apex, half, max(top - apex, 1.0), bottom - apex]))
    return guesses


def simplex(start: np.ndarray) -> np.ndarray:
    """Steps of a few pixels and degrees around a guess."""
    steps = np.array([6, -10, 0.12, 4, 8])
    return np.vstack([start, start + np.diag(steps)])


def cost(symmetric: np.ndarray, weight: np.ndarray) -> float:
    """Still pixels inside minus active ones, edges softened to one pixel, per pixel."""
    angle, radius = polar(symmetric, *weight.shape)
    _, _, half, near, far = symmetric
    margin = np.minimum(
        (half - np.abs(angle)) * np.maximum(radius, 1), np.minimum(radius - near, far - radius)
    )
    soft = np.clip(margin + 0.5, 0, 1)
    return -float((soft * weight).sum()) / weight.size


def refine(geometry: np.ndarray, active: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Move each edge out or in to where the active pixels end."""
    result = geometry.copy()
    angle, radius = polar(geometry, *active.shape)
    _, _, left, right, near, far = geometry
    within = (radius > near + 0.2 * (far - near)) & (radius < far)
    for side, start in ((2, left), (3, right)):
        result[side] = edge(angle, active, within, start, np.copysign(np.radians(4), start))
    core = np.abs(angle) < 0.85 * right
    result[5] = edge(radius, active, core, far, 6.0)
    # Between the transducer and the first echo lies blood or gel: near is the first echo of all.
    echoes = radius[core & (others | active)]
    result[4] = max(float(np.percentile(echoes, 0.5)) - 1.0, 0.0) if len(echoes) else near
    return result


def edge(
    coordinate: np.ndarray, active: np.ndarray, within: np.ndarray, start: float, reach: float
) -> float:
    """Up to |reach| inside or outside `start`: the outermost line that is still active."""
    bins = start + reach * np.linspace(-1, 1, 33)
    order = np.sign(reach)
    index = np.digitize(order * coordinate[within], order * bins)
    total = np.bincount(index, minlength=len(bins) + 1)[1:-1]
    hits = np.bincount(index, active[within], minlength=len(bins) + 1)[1:-1]
    lit = np.flatnonzero((total >= 3) & (hits >= EDGE * total))
    return float(bins[lit[-1] + 1] if len(lit) else start)


def refuse_traces(frames: np.ndarray, scale: float) -> None:
    """M-mode and spectral Doppler: a picture that scrolls, or that a cursor rewrites."""
    first = np.linspace(0, len(frames) - 2, 8).astype(int)
    now, then = reduced(frames[first], scale), reduced(frames[first + 1], scale)
    changed = [columns_changed(a, b) for a, b in zip(now, then, strict=True)]
    swept = np.median(changed) < 0.3 and columns_changed(now[0], then[-1]) > 0.5
    if swept or modes.scrolls(frames):
        raise Rejected("m_mode_or_spectral", "a trace that scrolls or is rewritten by a cursor")


def columns_changed(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the columns that differ between two frames."""
    return float((np.abs(b - a).mean(0) > 1.0).mean())
