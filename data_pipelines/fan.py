"""Fans: the shape of an ultrasound sector.

A fan is six numbers: apex x, apex y (pixels; a curved array's lies above its face, and any may lie
outside the picture), left and right edge (rad from straight down, steered fans are not
symmetric), and the radii of the transducer's face and of the deepest arc.
"""

import numpy as np

EDGE = 0.3  # share of active pixels that a line of the sector's edge must have


def polar(geometry: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Angle from straight down and radius of every pixel, seen from the apex; [H, W] each."""
    x = np.arange(width, dtype=np.float32)[None] - np.float32(geometry[0])
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(geometry[1])
    return np.arctan2(x, y), np.sqrt(x * x + y * y)  # hypot takes six times as long


def fan_mask(geometry: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels inside (apex x, apex y, left, right, near, far), opening by less than π; [H, W] bool.

    By the sides of two lines and by squares: angles and roots would cost five times as much.
    """
    apex_x, apex_y, left, right, near, far = np.float32(geometry)
    x = np.arange(width, dtype=np.float32)[None] - apex_x
    y = np.arange(height, dtype=np.float32)[:, None] - apex_y
    mask = x * np.cos(left) >= y * np.sin(left)
    mask &= x * np.cos(right) <= y * np.sin(right)
    squares = x * x + y * y
    if near > 0:
        mask &= squares >= near * near
    mask &= squares <= far * far
    return mask & (far >= 0)


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
    if len(echoes):
        first = len(echoes) // 200  # of the nearest half per cent, the farthest
        result[4] = max(float(np.partition(echoes, first)[first]) - 1.0, 0.0)
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
