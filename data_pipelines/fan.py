"""Fans: the shape of an ultrasound sector, fitted to the pixels that flicker.

A fan is six numbers: apex x, apex y (pixels; a curved array's lies above its face, and any may lie
outside the picture), left and right edge (rad from straight down, steered fans are not
symmetric), and the radii of the transducer's face and of the deepest arc.
"""

import itertools

import cv2
import numpy as np
from scipy import optimize

DARK = 0.5  # what a still pixel inside the fan costs, an active one being worth 1
EDGE = 0.3  # share of active pixels that a line of the sector's edge must have
OPENING = 18, 150  # degrees
EDGES_TRIED = 5  # straight pieces of the outline on each side
SYMMETRY, STEERED = 0.02, np.radians(10)  # what a steered fan must gain; from where it is one
STEP = 4.0  # pixels, of the first simplex
EVALUATIONS = 150
ENOUGH = 0.94  # of the best that there can be: no other start is tried


def polar(geometry: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Angle from straight down and radius of every pixel, seen from the apex; [H, W] each."""
    x = np.arange(width, dtype=np.float32)[None] - np.float32(geometry[0])
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(geometry[1])
    return np.arctan2(x, y), np.hypot(x, y)


def fan_mask(geometry: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels inside (apex x, apex y, left, right, near, far); [H, W] bool."""
    angle, radius = polar(geometry, height, width)
    _, _, left, right, near, far = geometry
    return (angle >= left) & (angle <= right) & (radius >= near) & (radius <= far)


def fit_fan(active: np.ndarray) -> np.ndarray | None:
    """The fan that best separates active from still pixels, or None if none does it well.

    `active` is [H, W] bool, one connected part without holes.
    """
    pixels = active.astype(np.uint8)
    hulls, plain = starts(pixels)
    ranked = [sorted(some, key=lambda start: cost(start, pixels)) for some in (hulls, plain)]
    best, least = None, 0.0
    for start in (*ranked[0][:2], *ranked[1][:1]):
        found = descend(start, pixels)
        if best is None or cost(found, pixels) < least:
            best, least = found, cost(found, pixels)
        if -least > ENOUGH * active.sum():
            break
    # A fresh simplex leaves a valley that the first got stuck in.
    best = descend(best, pixels, symmetry=0)
    return best if fits(best, active) else None


def descend(start: np.ndarray, active: np.ndarray, symmetry: float = SYMMETRY) -> np.ndarray:
    """The fan of least cost near `start`.

    Searched in where its edges cross two rows and its arcs the middle: moving one of these moves
    one side only, where an apex moves all.
    """
    rows = np.flatnonzero(active.any(1))
    heights = rows[0] + np.array([0.15, 0.7]) * (rows[-1] - rows[0])
    first = to_crossings(start, heights)
    simplex = np.vstack([first, first + STEP * np.diag([1, -1, 1, -1, 1, 1])])
    found = optimize.minimize(
        lambda crossings: cost(from_crossings(crossings, heights), active, symmetry), first,
        method="Nelder-Mead",
        options={"maxfev": EVALUATIONS, "xatol": 0.05, "fatol": 1.0, "initial_simplex": simplex},
    )  # fmt: skip
    return from_crossings(found.x, heights)


def to_crossings(geometry: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Left and right edge at the first height, at the second, and the arcs' lowest rows."""
    x, y, left, right, near, far = geometry
    across = x + np.outer(heights - y, np.tan([left, right]))
    return np.array([*across.ravel(), y + near, y + far])


def from_crossings(crossings: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The inverse of `to_crossings`; zeros where the edges do not open downwards."""
    (l1, r1, l2, r2), (h1, h2) = crossings[:4], heights
    widening = (r2 - l2 - r1 + l1) / (h2 - h1)  # how much wider a row below is
    if widening < 1e-3:
        return np.zeros(6)
    left, right = np.arctan((np.array([l2, r2]) - (l1, r1)) / (h2 - h1))
    y = h1 - (r1 - l1) / widening
    x = l1 - np.tan(left) * (h1 - y)
    return np.array([x, y, left, right, crossings[4] - y, crossings[5] - y])


def fits(geometry: np.ndarray, active: np.ndarray) -> bool:
    """Whether a fan holds what is active, little else, and has a still screen around it."""
    inside = fan_mask(geometry, *active.shape)
    common = (inside & active).sum()
    opening = np.degrees(geometry[3] - geometry[2])
    if not OPENING[0] <= opening <= OPENING[1] or inside.mean() < 0.04:
        return False
    if common < 0.93 * active.sum() or common < 0.7 * inside.sum():
        return False
    around = ~inside
    return around.mean() >= 0.05 and (active & around).sum() <= 0.3 * around.sum()


def cost(geometry: np.ndarray, active: np.ndarray, symmetry: float = SYMMETRY) -> float:
    """Still pixels inside, at their price, minus active ones; drawn, for this runs often."""
    x, y, left, right, near, far = geometry
    if not (right - left > 0.1 and far - near > 2 and right < 1.5 and left > -1.5):
        return 0.0
    turns = np.linspace(left, right, 24)
    across, down = np.sin(turns), np.cos(turns)
    near = max(near, 0.0)
    outline = np.empty((48, 2))
    outline[:24, 0], outline[:24, 1] = x + far * across, y + far * down
    outline[24:, 0], outline[24:, 1] = x + near * across[::-1], y + near * down[::-1]
    drawn = np.zeros_like(active)
    cv2.fillPoly(drawn, [np.rint(outline * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    inside = cv2.countNonZero(drawn)
    common = cv2.countNonZero(cv2.bitwise_and(drawn, active))
    found = cv2.countNonZero(active)
    steered = min(abs(left + right) / STEERED, 1.0)
    return DARK * (inside - common) - common + symmetry * steered * found


def starts(active: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """First guesses: with any two straight pieces of the outline as edges, and plain fans."""
    width = active.shape[1]
    contours, _ = cv2.findContours(active, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    hull = cv2.convexHull(outline)
    corners = cv2.approxPolyDP(hull, 1.0, closed=True)[:, 0].astype(float)  # [n, 2] x, y
    points = outline[:, 0].astype(float)
    middle = points.mean(0)
    sides: tuple[list, list] = ([], [])
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        (top, bottom) = (a, b) if a[1] <= b[1] else (b, a)
        cut = [min(p[0], width - 1 - p[0]) < 2 for p in (top, bottom)]
        length = np.hypot(*(bottom - top))
        slope = np.arctan2(bottom[0] - top[0], bottom[1] - top[1])
        if all(cut) or abs(slope) > 1.4 or length < 4:
            continue
        sides[int((top + bottom)[0] / 2 > middle[0])].append((length, slope, top))
    best = [sorted(side, key=lambda edge: -edge[0])[:EDGES_TRIED] for side in sides]
    pairs = (between(left, right, points) for left, right in itertools.product(*best))
    edged, plain = [fan for fan in pairs if fan is not None], []
    rows, columns = points[:, 1], points[:, 0]
    top, bottom, spread = rows.min(), rows.max(), np.ptp(columns) / 2
    for half in np.radians((30, 40, 50)):
        apex = max(top - 0.15 * (bottom - top), bottom - spread / np.tan(half) * 1.15)
        apex = min(apex, top + 2)
        x = (columns.min() + columns.max()) / 2
        plain.append(np.array([x, apex, -half, half, max(top - apex, 1.0), bottom - apex]))
    return edged, plain


def between(left: tuple, right: tuple, points: np.ndarray) -> np.ndarray | None:
    """The fan whose edges are two lines (length, slope, point) and which holds `points`."""
    (_, a, p), (_, b, q) = left, right
    if not OPENING[0] <= np.degrees(b - a) <= OPENING[1]:
        return None
    # p + s (sin a, cos a) = q + t (sin b, cos b)
    s = ((q - p)[0] * np.cos(b) - (q - p)[1] * np.sin(b)) / np.sin(a - b)
    apex = p + s * np.array([np.sin(a), np.cos(a)])
    radius = np.hypot(*(points - apex).T)
    return np.array([*apex, a, b, radius.min(), np.percentile(radius, 98)])


def refine(geometry: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Move each edge out or in to where the active pixels end."""
    result = geometry.copy()
    angle, radius = polar(geometry, *active.shape)
    _, _, left, right, near, far = geometry
    within = (radius > near + 0.2 * (far - near)) & (radius < far)
    reach = np.radians(4)
    result[2] = -edge(-angle, active, within, -left, reach)
    result[3] = edge(angle, active, within, right, reach)
    middle, half = (left + right) / 2, (right - left) / 2
    core = np.abs(angle - middle) < 0.85 * half
    result[5] = edge(radius, active, core, far, 6.0)
    # Between the transducer and the first echo lies blood or gel: near is the first echo of all.
    echoes = radius[core & active]
    result[4] = max(float(np.percentile(echoes, 0.5)) - 1.0, 0.0) if len(echoes) else near
    return result


def edge(
    coordinate: np.ndarray, active: np.ndarray, within: np.ndarray, start: float, reach: float
) -> float:
    """Up to `reach` inside or outside `start`: the outermost line that is still active."""
    bins = start + reach * np.linspace(-1, 1, 33)
    close = within & (np.abs(coordinate - start) <= reach)
    index = np.digitize(coordinate[close], bins)
    total = np.bincount(index, minlength=len(bins) + 1)[1:-1]
    hits = np.bincount(index, active[close], minlength=len(bins) + 1)[1:-1]
    lit = np.flatnonzero((total >= 3) & (hits >= EDGE * total))
    return float(bins[lit[-1]] if len(lit) else start)
