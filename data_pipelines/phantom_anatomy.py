"""A simulated heart: the shape of its chambers at end-diastole, and how every point moves.

Everything is in centimetres, in the heart's own frame: u across and v along the long axis (short
axis: u right, v down from the centre). The left ventricle is a half ellipsoid whose long axis
shortens, whose cavity narrows until it holds the volume asked for, and whose wall thickens as
muscle of constant volume must.
"""

from typing import ClassVar

import cv2
import numpy as np

from data_pipelines.phantom_heart import Heart, profile

OUTSIDE, LV, LA, RV, RA, MYOCARDIUM, WALL, AORTA, PERICARDIUM = range(9)
BLOOD = (LV, LA, RV, RA, AORTA)
FAR = 3.0  # cm beyond the outermost wall where tissue no longer moves


def _oval(v: np.ndarray, start: float, length: float, peak: float = 0.42) -> np.ndarray:
    """Half-width, 1 at its widest, of an oval that is cut off at `start` (an atrium)."""
    x = (v - start) / length
    return np.sqrt(np.clip(1 - ((x - peak) / (1 - peak)) ** 2, 0, None)) * (x >= 0)


def _pull_back(r: np.ndarray, rest: list, moved: list) -> np.ndarray:
    """Where a point now at radius `r` was at end-diastole: piecewise linear, 0 to 0.

    `rest` and `moved` are the radii of the same surfaces, inner to outer, then and now.
    """
    surfaces = zip([0.0, *rest, rest[-1] + FAR], [0.0, *moved, rest[-1] + FAR], strict=True)
    (inner, inner_now), *outer = surfaces
    origin = r
    for surface, surface_now in outer:
        gap = np.maximum(surface_now - inner_now, 1e-3)
        stretched = inner + (r - inner_now) * (surface - inner) / gap
        origin = np.where((r >= inner_now) & (r < surface_now), stretched, origin)
        inner, inner_now = surface, surface_now
    return origin


def _narrowing(square: np.ndarray, share: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How much the cavity narrows, m, so that sum(square (1 - m share)^2) = wanted sum(square)."""
    a, b, c = square.sum(), (square * share).sum(), (square * share**2).sum()
    return (b - np.sqrt(np.maximum(b * b - c * a * (1 - wanted), 0))) / c


class LongAxis:
    """Apical four- and two-chamber and parasternal long-axis views; v runs from apex to base."""

    v_range, u_range = (-3.0, 17.0), (-9.0, 9.0)

    def __init__(self, heart: Heart, view: str):
        self.heart, self.view = heart, view
        self.right_heart = view != "A2C"

    def _surfaces(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distances from the axis, at end-diastole: cavity, outer wall, right cavity's far side."""
        heart, length = self.heart, self.heart.length
        ventricle = heart.half_width * profile(v / length)
        atrium = 0.5 * heart.atrium * _oval(v, length, heart.atrium)
        cavity = np.where(v <= length, ventricle, atrium)
        outer_profile = profile(np.clip((v + heart.wall) / (length + heart.wall), 0, 1))
        outer = (heart.half_width + heart.wall) * outer_profile
        outer = np.where(v <= length, outer, atrium + 0.3)
        x = np.clip((v / length - 0.2) / 0.8, 0, None)
        right = np.where(
            v <= length,
            heart.right_width * np.minimum(x, 1) ** 0.6,
            1.1 * heart.right_width * _oval(v, length, 0.95 * heart.atrium),
        )
        return cavity, np.maximum(outer, cavity), np.maximum(outer, cavity) + right

    def labels(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """[R, C] labels at end-diastole on the grid of u [1, C] and v [R, 1]."""
        heart, length = self.heart, self.heart.length
        u, v = np.broadcast_arrays(u, v)
        cavity, outer, right = self._surfaces(v)
        r, below = np.abs(u), v > length
        labels = np.full(u.shape, OUTSIDE, np.uint8)
        if self.view == "PLAX":
            return self._parasternal(labels, u, v, cavity, outer, right)
        labels[(r < outer + 0.18) & ~below] = PERICARDIUM
        if self.right_heart:
            septal = u < 0
            apex = 0.2 * length
            free_wall = (v > apex - 0.35) & (v < length + 0.95 * heart.atrium + 0.25)
            labels[septal & (r < right + 0.35) & free_wall] = WALL
            labels[septal & (r < right) & (v > apex) & ~below] = RV
            # The tricuspid annulus lies a little nearer the apex than the mitral one.
            labels[septal & (r < right) & (v > length - 0.4)] = RA
        in_atria = below & (v < length + heart.atrium + 0.25)
        labels[(r < outer) & in_atria] = WALL
        labels[(r < outer) & ~below & (v > -heart.wall)] = MYOCARDIUM
        labels[(r < cavity) & ~below] = LV
        labels[(r < cavity) & below] = LA
        return labels

    def _parasternal(self, labels, u, v, cavity, outer, right) -> np.ndarray:
        """Right ventricle over septum over cavity; at the base the aorta over the left atrium."""
        heart, length = self.heart, self.heart.length
        r, below, septal = np.abs(u), v > length, u < 0
        roof = heart.half_width + heart.wall + 0.85 * heart.right_width
        labels[(u < outer + 0.25) & (u > 0) & (v > 0) & (v < length + 0.6)] = PERICARDIUM
        labels[septal & (r < roof + 0.4)] = WALL
        labels[septal & (r < roof)] = RV
        labels[(r < outer) & ~below] = MYOCARDIUM
        labels[(r < cavity) & ~below] = LV
        # The root leaves the outflow tract and rises a little towards the right of the screen.
        root = -0.75 * heart.half_width - 0.16 * (v - length)
        radius = 1.25 + 0.3 * np.exp(-(((v - length - 1.1) / 0.7) ** 2))  # sinuses of Valsalva
        tube = v > length - 0.3
        labels[(np.abs(u - root) < radius + 0.28) & tube] = WALL
        labels[(np.abs(u - root) < radius) & tube] = AORTA
        floor = root + radius + 0.28
        half = 0.5 * heart.atrium * _oval(v, length, 1.15 * heart.atrium, 0.5)
        atrium = (u > floor) & (u < floor + 2 * half) & below
        labels[(u > floor) & (u < floor + 2 * half + 0.25) & below & (half > 0)] = WALL
        labels[atrium] = LA
        return labels

    def origins(
        self, u: np.ndarray, v: np.ndarray, contraction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where tissue now on the grid u [1, C], v [R, 1] was at end-diastole: two [T, R, C]."""
        heart, length = self.heart, self.heart.length
        e = contraction[:, None]  # [T, 1]
        short = heart.shortening(e)
        roof = length + heart.atrium
        v_rest = np.stack(
            [
                np.interp(v[:, 0], [-9, 0, length * (1 - s), roof, 30], [-9, 0, length, roof, 30])
                for s in short[:, 0]
            ]
        )  # [T, R]
        rows = np.linspace(0, length, 200)
        # The fibrous annulus narrows less than the muscle does.
        share = 1 - 0.6 * np.clip((rows / length - 0.7) / 0.3, 0, 1)
        left = 1 - heart.ejection_fraction / 100 * contraction
        m = _narrowing(profile(rows / length) ** 2, share, left / (1 - short[:, 0]))[:, None]
        narrow = 1 - m * np.interp(v_rest, rows, share)
        widen = 1 + 0.12 * e  # atria fill while the ventricles empty
        base = 1 / (1 + np.exp(-(v_rest - length) / 0.15))  # 0 in the ventricle, 1 in the atrium
        cavity, outer, right = self._surfaces(v_rest)
        scale = (1 - base) * narrow + base * widen
        wall = np.sqrt((outer**2 - cavity**2) / (1 - short * (1 - base)) + (scale * cavity) ** 2)
        # Right ventricle: the free wall follows the septum and comes nearer to it.
        right_scale = (1 - base) * (1 - 0.3 * heart.ejection_fraction / 60 * e) + base * widen
        rest, moved = [cavity, outer], [scale * cavity, wall]
        u_rest = _pull_back(np.abs(u), *_columns(rest, moved))
        if self.right_heart:
            rest, moved = [*rest, right], [*moved, wall + right_scale * (right - outer)]
            septal = _pull_back(np.abs(u), *_columns(rest, moved))
            u_rest = np.where(u < 0, septal, u_rest)
        return np.sign(u) * u_rest, np.broadcast_to(v_rest[..., None], u_rest.shape)

    def leaflets(self, contraction: float, mitral: float, aortic: float) -> list[np.ndarray]:
        """Valve leaflets now: polylines [N, 2] of (u, v), hinge to tip."""
        heart = self.heart
        annulus = heart.length * (1 - float(heart.shortening(np.array(contraction))))
        hinge = 0.74 * heart.half_width * (1 - 0.12 * heart.ejection_fraction / 60 * contraction)
        anterior, posterior = -hinge, hinge
        if self.view == "PLAX":  # the root takes the septal half of the base
            anterior = -0.75 * heart.half_width + 1.4
        leaflets = _pair(anterior, posterior, annulus, mitral, reach=0.36 * heart.length)
        if self.view == "A4C":
            near, far = hinge + heart.wall * 0.8, hinge + heart.wall * 0.8 + heart.right_width
            leaflets += _pair(-far, -near, annulus - 0.4, mitral, reach=0.3 * heart.length)
        if self.view == "PLAX":
            root, radius = -0.75 * heart.half_width, 1.25
            tip_v = annulus + 1.3
            for side in (-1, 1):
                tip = root - 0.16 * 1.3 + side * 0.85 * radius * aortic
                bend = (root + side * radius * (0.75 + 0.25 * aortic), annulus + 0.5)
                leaflets.append(_curve((root + side * radius, annulus), bend, (tip, tip_v)))
        return leaflets


def _columns(rest: list, moved: list) -> tuple[list, list]:
    return [s[..., None] for s in rest], [s[..., None] for s in moved]


def _curve(start: tuple, bend: tuple, end: tuple) -> np.ndarray:
    """[12, 2] points of a quadratic Bézier curve."""
    s = np.linspace(0, 1, 12)[:, None]
    start, bend, end = map(np.array, (start, bend, end))
    return (1 - s) ** 2 * start + 2 * s * (1 - s) * bend + s**2 * end


def _pair(left: float, right: float, annulus: float, opening: float, reach: float) -> list:
    """Two leaflets: closed they meet at the annulus's middle, open they point to the apex."""
    middle, half = (left + right) / 2, (right - left) / 2
    leaflets = []
    for hinge, side in ((left, -1), (right, 1)):
        gap, drop = 0.62 * half * opening, (0.12 + 0.88 * opening) * reach * 0.75
        tip = (middle + side * gap, annulus - max(drop, 0.35))
        bend = (hinge + (0.1 + 0.25 * (1 - opening)) * (middle - hinge), annulus - 0.55 * drop)
        leaflets.append(_curve((hinge, annulus), bend, tip))
    return leaflets


class ShortAxis:
    """Parasternal short axis at the mitral valve; the centre of the left ventricle is (0, 0)."""

    v_range, u_range = (-9.0, 9.0), (-9.0, 9.0)
    SEPTUM: ClassVar[float] = np.deg2rad(205)  # where the right ventricle lies, from +u to +v

    def __init__(self, heart: Heart, view: str):
        self.heart = heart

    def _right(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Thickness of the right ventricular crescent in the direction of (u, v)."""
        angle = np.arctan2(v, u)
        off = np.abs((angle - self.SEPTUM + np.pi) % (2 * np.pi) - np.pi)
        return self.heart.right_width * 1.1 * np.clip(1 - (off / np.deg2rad(72)) ** 2, 0, None)

    def labels(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """[R, C] labels at end-diastole on the grid of u [1, C] and v [R, 1]."""
        r, right = np.hypot(u, v), self._right(u, v)
        cavity = self.heart.half_width
        outer = cavity + self.heart.wall
        labels = np.full(r.shape, OUTSIDE, np.uint8)
        labels[r < outer + 0.2] = PERICARDIUM
        labels[(r < outer + right + 0.35) & (right > 0)] = WALL
        labels[(r < outer + right) & (right > 0)] = RV
        labels[r < outer] = MYOCARDIUM
        labels[r < cavity] = LV
        return labels

    def origins(
        self, u: np.ndarray, v: np.ndarray, contraction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where tissue now on the grid u [1, C], v [R, 1] was at end-diastole: two [T, R, C]."""
        heart = self.heart
        e = contraction[:, None, None]  # [T, 1, 1]
        short = heart.shortening(e)
        cavity, outer = heart.half_width, heart.half_width + heart.wall
        now = cavity * np.sqrt((1 - heart.ejection_fraction / 100 * e) / (1 - short))
        wall = np.sqrt((outer**2 - cavity**2) / (1 - short) + now**2)
        right = self._right(u, v)
        right_now = wall + right * (1 - 0.3 * heart.ejection_fraction / 60 * e)
        r = np.hypot(u, v)
        ratio = _pull_back(r, [cavity, outer, outer + right], [now, wall, right_now])
        ratio = ratio / np.maximum(r, 1e-6)
        return ratio * u, ratio * v

    def leaflets(self, contraction: float, mitral: float, aortic: float) -> list[np.ndarray]:
        """The mitral orifice, a fish mouth: two lips [N, 2] of (u, v)."""
        heart = self.heart
        k = np.sqrt(1 - heart.ejection_fraction / 100 * contraction)
        half, gape = 0.72 * heart.half_width * k, 0.9 * heart.half_width * mitral
        ends = (-half, 0.2), (half, 0.2)
        return [_curve(ends[0], (0, 0.25 + side * gape), ends[1]) for side in (-1, 1)]


def anatomy(heart: Heart, view: str) -> LongAxis | ShortAxis:
    """The heart as `view` (A4C, A2C, PLAX or PSAX_MV) cuts it."""
    return (ShortAxis if view == "PSAX_MV" else LongAxis)(heart, view)


def echogenicity(
    labels: np.ndarray, texel: float, probe: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """[R, C] uint8 log echo strength of the tissue at end-diastole, 60 dB over 255.

    Surfaces across the beam shine, surfaces along it drop out. `probe` is in texels (u, v).
    """
    level = np.zeros(9, np.float32)
    level[[OUTSIDE, MYOCARDIUM, WALL, PERICARDIUM]] = 128, 142, 145, 200
    level[list(BLOOD)] = 38
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
