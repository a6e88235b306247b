"""The parasternal short-axis views of a simulated heart: mitral valve, papillary muscles, apex.

Centimetres in the heart's own frame: the left ventricle's centre is (0, 0), u points right and v
down. As seen from the apex, the apex turns counter-clockwise in systole and the base clockwise.
"""

import math
from typing import NamedTuple

import numpy as np

from data_pipelines.phantom_heart import Heart
from data_pipelines.phantom_tissue import (
    FAR,
    LV,
    MYOCARDIUM,
    OUTSIDE,
    PERICARDIUM,
    RV,
    WALL,
    Strand,
    curve,
    pull_back,
)


class Level(NamedTuple):
    """One height at which the ventricle is cut."""

    cavity: float  # half-width, of the widest
    right: float  # thickness of the right ventricle's crescent, of its base
    twist: float  # degrees at an ejection fraction of 60 %, clockwise (Sengupta et al. 2008)


LEVELS = {
    "PSAX_MV": Level(1.0, 1.1, 4.0),
    "PSAX_PM": Level(0.93, 0.85, -2.0),
    "PSAX_AP": Level(0.62, 0.35, -10.0),
}
SEPTUM = math.radians(205)  # where the right ventricle lies, from +u to +v
PAPILLARY = (math.radians(35), math.radians(140))  # anterolateral, posteromedial


class ShortAxis:
    """A short axis at one of `LEVELS`."""

    v_range, u_range = (-9.0, 9.0), (-9.0, 9.0)

    def __init__(self, heart: Heart, view: str):
        self.heart, self.view, self.level = heart, view, LEVELS[view]
        self.cavity = self.level.cavity * heart.half_width  # cm, at end-diastole

    def _right(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Thickness of the right ventricular crescent in the direction of (u, v)."""
        off = np.abs((np.arctan2(v, u) - SEPTUM + np.pi) % (2 * np.pi) - np.pi)
        width = self.heart.right_width * self.level.right
        return width * np.clip(1 - (off / math.radians(72)) ** 2, 0, None)

    def labels(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """[R, C] labels at end-diastole on the grid of u [1, C] and v [R, 1].

        Papillary muscles count to the cavity, as they do where it is traced (Lang et al. 2015).
        """
        r, right = np.hypot(u, v), self._right(u, v)
        outer = self.cavity + self.heart.wall
        labels = np.full(r.shape, OUTSIDE, np.uint8)
        labels[r < outer + 0.2] = PERICARDIUM
        labels[(r < outer + right + 0.35) & (right > 0)] = WALL
        labels[(r < outer + right) & (right > 0)] = RV
        labels[r < outer] = MYOCARDIUM
        labels[r < self.cavity] = LV
        return labels

    def origins(
        self, u: np.ndarray, v: np.ndarray, contraction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where tissue that is now at u [T, 1, C], v [T, R, 1] was at end-diastole: two [T, R, C].

        `contraction` [T] is 0 at end-diastole.
        """
        heart = self.heart
        u, v, e = (a.astype(np.float32) for a in (u, v, contraction[:, None, None]))
        effort = np.float32(heart.ejection_fraction / 60) * e
        cavity, outer = np.float32(self.cavity), np.float32(self.cavity + heart.wall)
        now = self.cavity_now(e)
        wall = np.sqrt((outer**2 - cavity**2) / (1 - heart.shortening(e)) + now**2)
        right = self._right(u, v).astype(np.float32)
        r = np.hypot(u, v)
        rest = [np.broadcast_to(cavity, r.shape), np.broadcast_to(outer, r.shape), outer + right]
        moved = [now, wall, wall + right * (1 - np.float32(0.3) * effort)]
        ratio = pull_back(r, rest, moved)
        ratio /= np.maximum(r, np.float32(1e-6))
        turned = np.float32(np.deg2rad(self.level.twist)) * effort
        turned = turned * np.clip(1 - (r - wall) / np.float32(FAR), 0, 1)
        return ratio * (u + turned * v), ratio * (v - turned * u)

    def cavity_now(self, contraction: np.ndarray) -> np.ndarray:
        """The cavity's radius, cm."""
        left = 1 - self.heart.ejection_fraction / 100 * contraction
        return self.cavity * np.sqrt(left / (1 - self.heart.shortening(contraction)))

    def strands(self, contraction: float, mitral: float, aortic: float) -> list[Strand]:
        """What moves inside: the lips of the mitral orifice, or the papillary muscles."""
        now = float(self.cavity_now(np.array(contraction)))
        if self.view == "PSAX_MV":  # a fish mouth
            half, gape = 0.72 * now, 0.9 * self.heart.half_width * mitral
            ends = (-half, 0.2), (half, 0.2)
            return [Strand(curve(ends[0], (0, 0.25 + s * gape), ends[1])) for s in (-1, 1)]
        if self.view == "PSAX_PM":
            thickness = 0.42 * (self.cavity * now) ** 0.5  # they thicken as the cavity narrows
            ways = [np.array((np.cos(a), np.sin(a))) for a in PAPILLARY]
            reach = np.array((now, 0.62 * now))[:, None]
            return [Strand(reach * way, thickness, echo=140) for way in ways]
        return []
