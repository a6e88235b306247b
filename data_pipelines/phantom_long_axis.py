"""The apical and parasternal long-axis views of a simulated heart, and how every point moves.

Everything is in centimetres, in the heart's own frame: u across and v along the long axis. The left
ventricle is a half ellipsoid whose long axis shortens, whose cavity narrows until it holds the
volume asked for, and whose wall thickens as muscle of constant volume must.
"""

import numpy as np

from data_pipelines.phantom_heart import Heart, profile
from data_pipelines.phantom_tissue import (
    AORTA,
    LA,
    LV,
    MYOCARDIUM,
    OUTSIDE,
    PERICARDIUM,
    RA,
    RV,
    WALL,
    Strand,
    curve,
    pull_back,
)

# What is left of the aortic valve's opening, and how thick [cm] and bright (of 255) its leaflets
# are: they part by 2.1 cm, in early stenosis by 1.3, in a significant one by 0.7 (less than 0.8 cm
# is severe, more than 1.2 is not: Godley et al. 1981).
STENOSIS = {"none": (1.0, 0.13, 165), "early": (0.6, 0.2, 182), "significant": (0.33, 0.3, 205)}
# Of the ventricle's length: just below the tips of the mitral leaflets, where walls are measured
# (Lang et al. 2015).
LEVEL = 0.68
ROOT = 1.25  # cm, radius of the aorta
SWING = (
    0.9  # cm that the aorta moves in systole, at an ejection fraction of 60 % (Pratt et al. 1976)
)


def _oval(v: np.ndarray, start: float, length: float, peak: float = 0.42) -> np.ndarray:
    """Half-width, 1 at its widest, of an oval that is cut off at `start` (an atrium)."""
    x = (v - start) / length
    return np.sqrt(np.clip(1 - ((x - peak) / (1 - peak)) ** 2, 0, None)) * (x >= 0)


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
            labels[septal & (r < right) & (r > outer) & (v > length - 0.4)] = RA
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
        root = self.root - 0.16 * (v - length)
        radius = ROOT + 0.3 * np.exp(-(((v - length - 1.1) / 0.7) ** 2))  # sinuses of Valsalva
        tube = v > length - 0.3
        labels[(labels == RV) & tube & (u > root)] = WALL  # the right ventricle lies before it
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
        """Where tissue that is now at u [T, 1, C], v [T, R, 1] was at end-diastole: two [T, R, C].

        `contraction` [T] is 0 at end-diastole.
        """
        heart, length = self.heart, self.heart.length
        e = contraction[:, None]  # [T, 1]
        short = heart.shortening(e)
        roof = length + heart.atrium
        rest = [-9, 0, length, roof, 30]
        v_rest = np.stack(
            [
                np.interp(row, [-9, 0, length * (1 - s), roof, 30], rest)
                for row, s in zip(v[..., 0], short[:, 0], strict=True)
            ]
        )  # [T, R]
        cavity, outer, right = self._surfaces(v_rest)
        cavity_now, wall, widen, base = self._walls(v_rest, contraction)
        rest, moved = _columns(cavity, outer), _columns(cavity_now, wall)
        u = u.astype(np.float32)
        if self.view == "PLAX":
            u = u + _columns(self._swing(v_rest - length, e))[0]
        if self.right_heart:
            # The right ventricle's free wall follows the septum and comes nearer to it.
            nearer = (1 - base) * (1 - 0.3 * heart.ejection_fraction / 60 * e) + base * widen
            thin, thin_now, follows = _columns(right - outer, nearer * (right - outer), wall)
            rest.append(_columns(right)[0])
            moved.append(follows + np.where(u < 0, thin_now, thin))
        u_rest = np.copysign(pull_back(np.abs(u), rest, moved), u)
        return u_rest, np.broadcast_to(v_rest.astype(np.float32)[..., None], u_rest.shape)

    def _walls(self, v_rest: np.ndarray, contraction: np.ndarray) -> tuple[np.ndarray, ...]:
        """Distances from the axis now, of what was at v_rest [T, R] at end-diastole.

        Those of the cavity and of the outer wall, [T, R]; how much the atria have widened, [T, 1];
        and where they are, from 0 in the ventricle to 1, [T, R].
        """
        heart, length = self.heart, self.heart.length
        e = contraction[:, None]  # [T, 1]
        short = heart.shortening(e)
        rows = np.linspace(0, length, 200)
        # The fibrous annulus narrows less than the muscle does.
        share = 1 - 0.6 * np.clip((rows / length - 0.7) / 0.3, 0, 1)
        left = 1 - heart.ejection_fraction / 100 * contraction
        m = _narrowing(profile(rows / length) ** 2, share, left / (1 - short[:, 0]))[:, None]
        narrow = 1 - m * np.interp(v_rest, rows, share)
        widen = 1 + 0.12 * e  # atria fill while the ventricles empty
        base = 1 / (1 + np.exp(-(v_rest - length) / 0.15))
        cavity, outer, _ = self._surfaces(v_rest)
        scale = (1 - base) * narrow + base * widen
        wall = np.sqrt((outer**2 - cavity**2) / (1 - short * (1 - base)) + (scale * cavity) ** 2)
        return scale * cavity, wall, widen, base

    def landmarks(self, contraction: np.ndarray) -> np.ndarray:
        """Where septum, cavity and posterior wall meet a line across the ventricle.

        [T, 4, 2] of (u, v) in cm, in the order of records.LANDMARKS, at each contraction [T]; the
        muscle there is always the same.
        """
        v_rest = np.full((len(contraction), 1), LEVEL * self.heart.length)
        cavity, wall, *_ = self._walls(v_rest, contraction)  # [T, 1]
        u = np.concatenate([-wall, -cavity, cavity, wall], 1)  # [T, 4]
        v = v_rest * (1 - self.heart.shortening(contraction[:, None]))  # [T, 1]
        return np.stack([u, np.broadcast_to(v, u.shape)], -1)

    def strands(self, contraction: float, mitral: float, aortic: float) -> list[Strand]:
        """Valve leaflets now, hinge to tip; openings are 0 to 1."""
        heart = self.heart
        annulus = self.annulus(contraction)
        hinge = 0.74 * heart.half_width * (1 - 0.12 * heart.ejection_fraction / 60 * contraction)
        anterior, posterior = -hinge, hinge
        if self.view == "PLAX":  # the root takes the septal half of the base
            anterior = self.root + 1.4
        leaflets = _pair(anterior, posterior, annulus, mitral, reach=0.36 * heart.length)
        if self.view == "A4C":
            near, far = hinge + heart.wall * 0.8, hinge + heart.wall * 0.8 + heart.right_width
            leaflets += _pair(-far, -near, annulus - 0.4, mitral, reach=0.3 * heart.length)
        strands = [Strand(points) for points in leaflets]
        if self.view == "PLAX":
            parted, thickness, echo = STENOSIS[heart.aortic_stenosis]
            opening = parted * aortic
            for side in (-ROOT, ROOT):
                reach = 0.7 + 0.6 * opening  # cm
                tip = (self.root - 0.16 * reach + 0.85 * side * opening, annulus + reach)
                bend = (self.root + side * (0.75 + 0.25 * opening), annulus + 0.4)
                points = curve((self.root + side, annulus), bend, tip)
                points[:, 0] -= self._swing(points[:, 1] - annulus, contraction)
                strands.append(Strand(points, thickness, echo))
        return strands

    def _swing(self, beyond: np.ndarray, contraction: np.ndarray) -> np.ndarray:
        """How far [cm] the aorta swings forward as the atrium fills, `beyond` the annulus [cm]."""
        swing = SWING * self.heart.ejection_fraction / 60 * contraction
        return swing * np.clip((beyond + 0.5) / 1.5, 0, 1)

    @property
    def root(self) -> float:
        """The aortic root's middle where it leaves the ventricle, u in cm."""
        return -0.75 * self.heart.half_width

    def annulus(self, contraction: float) -> float:
        """The mitral annulus now, v in cm."""
        return self.heart.length * (1 - float(self.heart.shortening(np.array(contraction))))


def _columns(*rows: np.ndarray) -> list[np.ndarray]:
    """Each [T, R] as [T, R, 1] float32."""
    return [row.astype(np.float32)[..., None] for row in rows]


def _pair(left: float, right: float, annulus: float, opening: float, reach: float) -> list:
    """Two leaflets: closed they meet at the annulus's middle, open they point to the apex."""
    middle, half = (left + right) / 2, (right - left) / 2
    leaflets = []
    for hinge, side in ((left, -1), (right, 1)):
        gap, drop = 0.62 * half * opening, (0.12 + 0.88 * opening) * reach * 0.75
        tip = (middle + side * gap, annulus - max(drop, 0.35))
        bend = (hinge + (0.1 + 0.25 * (1 - opening)) * (middle - hinge), annulus - 0.55 * drop)
        leaflets.append(curve((hinge, annulus), bend, tip))
    return leaflets
