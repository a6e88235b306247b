"""The fan that best separates pixels that flicker from still ones.

Its cost is a sum over the pixels inside, so an integral along its outline (Green): of sums along
the rows. A few points of the outline tell it, for many fans at once and to parts of a pixel.
"""

import itertools

import cv2
import numpy as np

from data_pipelines.fan import fan_mask

DARK = 0.5  # what a still pixel inside the fan costs, an active one being worth 1
OPENING, TILT = (18, 150), 40  # degrees; from straight down, a steered fan's middle at most
FACE = 0.5  # of the deepest radius: with a face farther from the apex, rectangles would be fans
EDGES_TRIED = 5  # straight pieces of the outline on each side
SYMMETRY, STEERED = 0.02, np.radians(10)  # what a steered fan must gain; from where it is one
STEP, FINE, FINEST = 4.0, 1.0, 0.5  # pixels: moves at first, last moves of a start, of all
GAIN = 10.0  # of cost: less than that ends the moves of one length
ENOUGH = 0.94  # of the best that there can be: no other start is tried
POINTS = 32  # of the outline on each of its four sides

# From the left corner at the face down the left edge, along the deepest arc, up the right edge and
# back: shares of the way from the face to the deepest arc, and from left to right.
_there, _zero, _one = np.linspace(0, 1, POINTS + 1)[:-1], np.zeros(POINTS), np.ones(POINTS)
ALONG = np.float32([*_there, *_one, *(1 - _there), *_zero, 0])
ACROSS = np.float32([*_zero, *_there, *_one, *(1 - _there), 0])
OUTLINE = np.stack([ACROSS, ALONG])[:, None]  # [2, 1, n + 1]
IN_SUMS = np.float32([[0.5], [1]])  # of a point x, y: its place in `row_sums`
NARROWEST = np.float32([[0.1], [2]])  # rad, pixels: from one edge, and one arc, to the other
# One crossing moved there, back, or two there: what a quadratic of six variables takes.
PAIRS = np.triu_indices(6, 1)
MOVES = np.vstack([np.zeros(6), np.eye(6), -np.eye(6), np.eye(6)[PAIRS[0]] + np.eye(6)[PAIRS[1]]])
SHARES = np.array([[1.0], [0.5], [0.25]])  # of the way to the quadratic's lowest point


def fit_fan(active: np.ndarray) -> np.ndarray | None:
    """The fan that best separates active from still pixels, or None if none does it well.

    `active` is [H, W] bool, one connected part without holes.
    """
    total, sums = np.count_nonzero(active), row_sums(active)
    rows = np.flatnonzero(active.any(1))
    heights = rows[0] + np.array([0.15, 0.7]) * (rows[-1] - rows[0])
    hulls, plain = starts(active.view(np.uint8))
    fans = np.concatenate([hulls, plain])
    ranks = np.argsort(costs(fans, sums, SYMMETRY * total))
    best, least = None, 0.0
    for i in (*ranks[ranks < len(hulls)][:2], *ranks[ranks >= len(hulls)][:1]):
        found, cost = descend(fans[i], sums, heights, SYMMETRY * total, (STEP, FINE))
        if best is None or cost < least:
            best, least = found, cost
        if -least > ENOUGH * total:
            break
    # A symmetric fan may be a valley beside the true one.
    best, _ = descend(best, sums, heights, 0.0, (2 * FINE, FINEST))
    return best if fits(best, active) else None


def row_sums(active: np.ndarray) -> np.ndarray:
    """What the pixels left of each place cost, [H + 2, W + 1] float32, zero above and below."""
    height, width = active.shape
    sums = np.zeros((height + 2, width + 1), np.float32)
    before = np.diff(cv2.integral(active.view(np.uint8)), axis=0)  # active pixels, [H, W + 1]
    np.subtract(
        DARK * np.arange(width + 1), (1 + DARK) * before, out=sums[1:-1], casting="same_kind"
    )
    return sums


def costs(geometries: np.ndarray, sums: np.ndarray, steering: float) -> np.ndarray:
    """Of each fan [K, 6]: still pixels inside, at their price, minus active ones; [K].

    `sums` are `row_sums`, `steering` is what a steered fan costs more.
    """
    fans = np.float32(geometries).T  # [6, K]
    np.maximum(fans[4], 0, out=fans[4])
    firsts, lasts = fans[2::2], fans[3::2]  # left and near, right and far; [2, K]
    extent = lasts - firsts
    turn, radius = firsts[..., None] + extent[..., None] * OUTLINE  # [K, n + 1] each
    points = np.stack([np.sin(turn), np.cos(turn)])  # [2, K, n + 1]
    points *= radius
    points += (fans[:2] + IN_SUMS)[..., None]
    middles = (points[..., 1:] + points[..., :-1]) / 2  # of each piece of the outline, [2, K, n]
    before = cv2.remap(sums, *middles, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    pieces = points[1, :, 1:] - points[1, :, :-1]  # [K, n]
    steered = np.minimum(np.abs(fans[2] + fans[3]) / STEERED, 1)
    sensible = (extent > NARROWEST).all(0) & (lasts[0] < 1.5) & (firsts[0] > -1.5)
    return np.where(sensible, steering * steered - (before * pieces).sum(1), 0)


def descend(
    start: np.ndarray,
    sums: np.ndarray,
    heights: np.ndarray,
    steering: float,
    steps: tuple[float, float],
) -> tuple[np.ndarray, float]:
    """The fan of least cost near `start`, and its cost.

    Searched in where its edges cross two rows, `heights`, and its arcs the middle: moving one of
    these moves one side only, where an apex moves all. A quadratic through the costs of moves of
    the first of `steps` tells where it is lowest; they are halved down to the last.
    """
    crossings, (step, last) = to_crossings(start, heights), steps
    while step >= last:
        moves = step * MOVES
        cost = costs(from_crossings(crossings + moves, heights), sums, steering)
        there, back, both = cost[1:7], cost[7:13], cost[13:]
        curves = np.diag(there + back - 2 * cost[0])
        curves[PAIRS] = both - there[PAIRS[0]] - there[PAIRS[1]] + cost[0]
        values, axes = np.linalg.eigh(curves, "U")
        values = np.maximum(np.abs(values), 0.05 * np.abs(values).max() + 1e-9)
        lowest = -axes @ (axes.T @ (there - back) / 2 / values)
        lowest *= step * min(1.0, 2 / max(np.abs(lowest).max(), 1e-9))
        moves = np.vstack([moves, SHARES * lowest])
        ahead = costs(from_crossings(crossings + moves[-len(SHARES) :], heights), sums, steering)
        cost = np.concatenate([cost, ahead])
        best = cost.argmin()
        crossings = crossings + moves[best]
        if cost[0] - cost[best] < GAIN:
            step /= 2
    return from_crossings(crossings[None], heights)[0], float(cost[best])


def to_crossings(geometry: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Left and right edge at the first height, at the second, and the arcs' lowest rows; [6]."""
    x, y, left, right, near, far = geometry
    across = x + np.outer(heights - y, np.tan([left, right]))
    return np.array([*across.ravel(), y + near, y + far])


def from_crossings(crossings: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The inverse of `to_crossings`, [K, 6]; zeros where the edges do not open downwards."""
    (l1, r1, l2, r2, near, far), (h1, h2) = crossings.T, heights
    left, right = (l2 - l1) / (h2 - h1), (r2 - r1) / (h2 - h1)
    opens = right - left >= 1e-3
    y = h1 - (r1 - l1) / np.where(opens, right - left, 1)
    fans = [l1 - left * (h1 - y), y, np.arctan(left), np.arctan(right), near - y, far - y]
    return np.where(opens, fans, 0).T


def fits(geometry: np.ndarray, active: np.ndarray) -> bool:
    """Whether a fan holds what is active, little else, and has a still screen around it."""
    inside = fan_mask(geometry, *active.shape)
    within, common, found = map(np.count_nonzero, (inside, inside & active, active))
    opening = np.degrees(geometry[3] - geometry[2])
    if not OPENING[0] <= opening <= OPENING[1] or within < 0.04 * active.size:
        return False
    tilt = np.degrees(abs(geometry[2] + geometry[3])) / 2
    if tilt > TILT or geometry[4] > FACE * geometry[5]:
        return False
    if common < 0.95 * found or common < 0.75 * within:
        return False
    around = active.size - within
    return around >= 0.05 * active.size and found - common <= 0.3 * around


def starts(active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First guesses, [K, 6] each: any two straight pieces of the outline as edges; plain fans."""
    width = active.shape[1]
    contours, _ = cv2.findContours(active, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    hull = cv2.convexHull(outline)
    corners = cv2.approxPolyDP(hull, 1.0, closed=True)[:, 0].astype(float)  # [n, 2] x, y
    points = outline[:, 0].astype(float)
    middle = points.mean(0)
    sides: tuple[list, list] = ([], [])
    after = np.roll(corners, -1, 0)
    first = (corners[:, 1] <= after[:, 1])[:, None]
    tops, bottoms = np.where(first, corners, after), np.where(first, after, corners)
    across, down = (bottoms - tops).T
    lengths, slopes = np.hypot(across, down), np.arctan2(across, down)
    cut = np.minimum(corners[:, 0], width - 1 - corners[:, 0]) < 2
    good = ~(cut & np.roll(cut, -1)) & (np.abs(slopes) <= 1.4) & (lengths >= 4)
    right = (tops + bottoms)[:, 0] / 2 > middle[0]
    for i in np.flatnonzero(good):
        sides[int(right[i])].append((lengths[i], slopes[i], tops[i]))
    best = [sorted(side, key=lambda edge: -edge[0])[:EDGES_TRIED] for side in sides]
    edged = between(*best, points) if all(best) else np.empty((0, 6))
    rows, columns = points[:, 1], points[:, 0]
    top, bottom = rows.min(), rows.max()
    left, right = columns.min(), columns.max()
    half = np.radians((30, 40, 50))
    apex = np.maximum(
        top - 0.15 * (bottom - top), bottom - (right - left) / 2 / np.tan(half) * 1.15
    )
    apex = np.minimum(apex, top + 2)
    x = np.full(3, (left + right) / 2)
    plain = np.stack([x, apex, -half, half, np.maximum(top - apex, 1.0), bottom - apex], 1)
    return edged, plain


def between(lefts: list[tuple], rights: list[tuple], points: np.ndarray) -> np.ndarray:
    """The fans [K, 6] whose edges are two lines (length, slope, point) and which hold `points`."""
    pairs = [
        (a, *p, b, *(q - p))
        for (_, a, p), (_, b, q) in itertools.product(lefts, rights)
        if OPENING[0] <= np.degrees(b - a) <= OPENING[1]
    ]
    a, x, y, b, across, down = np.reshape(pairs, (-1, 6)).T
    # p + s (sin a, cos a) = q + t (sin b, cos b)
    s = (across * np.cos(b) - down * np.sin(b)) / np.sin(a - b)
    x, y = x + s * np.sin(a), y + s * np.cos(a)
    radius = np.hypot(points[:, 0] - x[:, None], points[:, 1] - y[:, None])  # [K, n]
    far = int(0.98 * (len(points) - 1))
    return np.stack([x, y, a, b, radius.min(1), np.partition(radius, far, 1)[:, far]], 1)
