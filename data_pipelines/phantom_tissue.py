"""The tissue that a simulated heart is made of: its labels, its motion, how strongly it echoes.

Each view lays out labels at end-diastole (`phantom_long_axis`, `phantom_short_axis`).
"""

from typing import NamedTuple

import cv2
import numpy as np

OUTSIDE, LV, LA, RV, RA, MYOCARDIUM, WALL, AORTA, PERICARDIUM = range(9)
BLOOD = (LV, LA, RV, RA, AORTA)
BLOOD_ECHO = 30  # of 255, as in `echogenicity`
FAR = 3.0  # cm beyond the outermost wall where tissue no longer moves


class Strand(NamedTuple):
    """A leaflet or a muscle that is drawn as a thick line."""

    points: np.ndarray  # [N, 2] of (u, v), cm
    thickness: float = 0.13  # cm
    echo: int = 165  # of 255, as in `echogenicity`


_ALONG = np.linspace(0, 1, 12)
_BEZIER = np.stack([(1 - _ALONG) ** 2, 2 * _ALONG * (1 - _ALONG), _ALONG**2], -1)


def curve(start: tuple, bend: tuple, end: tuple) -> np.ndarray:
    """[12, 2] points of a quadratic Bézier curve."""
    return _BEZIER @ np.array((start, bend, end))


def pull_back(r: np.ndarray, rest: list[np.ndarray], moved: list[np.ndarray]) -> np.ndarray:
    """Where a point now at radius `r` was at end-diastole: piecewise linear, 0 to 0.

    `rest` and `moved` are the radii of the same surfaces, inner to outer, then and now.
    """
    far = rest[-1] + np.float32(FAR)
    origin = np.maximum(r - far, 0)
    inner = inner_now = np.float32(0)
    for surface, surface_now in zip([*rest, far], [*moved, far], strict=True):
        gap = np.maximum(surface_now - inner_now, np.float32(1e-3))
        part = np.clip(r - inner_now, 0, gap)  # of the way to r that lies between these surfaces
        part *= (surface - inner) / gap
        origin += part
        inner, inner_now = surface, surface_now
    return origin


def echogenicity(
    labels: np.ndarray, texel: float, probe: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """[R, C] uint8 log echo strength of the tissue at end-diastole, 60 dB over 255.

    Surfaces across the beam shine, surfaces along it drop out. `probe` is in texels (u, v).
    """
    level = np.zeros(9, np.float32)
    level[[OUTSIDE, MYOCARDIUM, WALL, PERICARDIUM]] = 115, 142, 145, 200
    level[list(BLOOD)] = BLOOD_ECHO
    strength = level[labels]
    rows, columns = labels.shape
    for size, depth in ((1.2, 9.0), (0.4, 6.0)):  # cm: bundles of fibres, fat, fibrous strands
        coarse = [max(2, int(n * texel / size)) for n in (columns, rows)]
        noise = rng.standard_normal(coarse[::-1]).astype(np.float32)
        strength += depth * cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC)
    tissue = 1 - np.isin(labels, BLOOD).astype(np.float32)
    soft = cv2.GaussianBlur(tissue, (0, 0), 0.07 / texel)
    down, across = np.gradient(soft, texel)
    beam_u = np.arange(columns)[None] - probe[0]
    beam_v = np.arange(rows)[:, None] - probe[1]
    facing = np.abs(across * beam_u + down * beam_v) / np.maximum(np.hypot(beam_u, beam_v), 1)
    strength = cv2.GaussianBlur(strength, (0, 0), 0.05 / texel)
    strength += 9.0 * facing - 3.0 * np.hypot(across, down)
    return np.clip(strength, 0, 255).astype(np.uint8)
