"""The sector of a simulated scan: its beams, its place on the screen, the heart's place in it."""

from dataclasses import dataclass

import numpy as np

from data_pipelines.phantom_heart import Heart


@dataclass(frozen=True, kw_only=True)
class Fan:
    """Where the sector lies on the screen, and where the heart lies in the sector."""

    half_angle: float  # rad
    depth: float  # cm
    face: float  # cm, from the fan's apex to the transducer's face
    apex: tuple[float, float]  # x, y on the screen, pixels
    pixels: float  # a centimetre
    heart: tuple[float, float]  # x, z of the heart's (0, 0), cm from the apex of the fan
    tilt: float  # rad, the heart's v axis from straight down, towards the left of the screen
    mirror: int = 1  # -1: the septum (u < 0) is to the right of the apex, seen along v

    @classmethod
    def draw(
        cls, view: str, heart: Heart, size: tuple[int, int], rng: np.random.Generator
    ) -> "Fan":
        """A sector that shows `view` of `heart` on a screen of `size` (H, W)."""
        height, width = size
        half_angle = np.deg2rad(rng.uniform(70, 95)) / 2
        mirror = 1
        if view == "PLAX":  # the apex to the left, the septum towards the probe
            mirror = -1
            tilt = np.deg2rad(rng.uniform(-98, -84))
            z = 2.4 + heart.right_width + heart.wall + heart.half_width
            place = (-0.98 * heart.length + rng.uniform(-0.4, 0.4), z)
            depth = z + heart.half_width + heart.wall + rng.uniform(2.5, 4.5)
        elif view.startswith("PSAX"):
            tilt = np.deg2rad(rng.uniform(-12, 12))
            z = 3.2 + heart.right_width + heart.wall + heart.half_width
            place = (rng.uniform(0.0, 0.7), z)
            depth = z + heart.half_width + heart.wall + rng.uniform(2.0, 4.0)
        else:
            tilt = np.deg2rad(rng.uniform(-12, -4) if view == "A4C" else rng.uniform(-5, 5))
            place = (rng.uniform(0.2, 0.7), rng.uniform(1.9, 2.5))
            depth = place[1] + heart.length + heart.atrium + rng.uniform(0.8, 2.5)
        face = rng.uniform(0.3, 0.9)
        top, bottom = 0.09 * height, 0.86 * height
        pixels = min((bottom - top) / (depth - face), 0.48 * width / (depth * np.sin(half_angle)))
        pixels *= rng.uniform(0.92, 1.0)
        spare = max(0.0, 0.48 * width - pixels * depth * np.sin(half_angle))
        middle = width / 2 + rng.uniform(-0.5, 0.5) * spare
        apex = (middle, top - pixels * face * np.cos(half_angle))
        return cls(half_angle=half_angle, depth=depth, face=face, apex=apex, pixels=pixels,
                   heart=place, tilt=tilt, mirror=mirror)  # fmt: skip

    def beams(self) -> tuple[np.ndarray, np.ndarray]:
        """Ranges [R, 1] in cm and angles [1, A] in rad of the samples along the beams."""
        ranges = np.linspace(self.face, self.depth, int(self.pixels * self.depth))
        arc = 2 * self.half_angle * 0.7 * self.depth
        angles = np.linspace(-self.half_angle, self.half_angle, int(0.75 * self.pixels * arc))
        return ranges[:, None], angles[None]

    def to_heart(self, ranges: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Range and angle from the fan's apex → (u, v) of the heart, cm."""
        x = ranges * np.sin(angles) - self.heart[0]
        z = ranges * np.cos(angles) - self.heart[1]
        return self.axes(x, z)

    def axes(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A way right and down on the screen, cm → the same along the heart's u and v."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        return self.mirror * (x * c + z * s), z * c - x * s

    def from_heart(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(u, v) of the heart, cm → range and angle from the fan's apex."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        u = self.mirror * u
        x, z = u * c - v * s + self.heart[0], u * s + v * c + self.heart[1]
        return np.hypot(x, z), np.arctan2(x, z)

    def to_screen(self, ranges: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Range [cm] and angle [rad] from the fan's apex → x, y on the screen, pixels."""
        x, y = ranges * np.sin(angles), ranges * np.cos(angles)
        return self.apex[0] + self.pixels * x, self.apex[1] + self.pixels * y

    def polar(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each pixel of a screen of `size`: range [cm], angle [rad], whether in the sector."""
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        x, y = (x - self.apex[0]) / self.pixels, (y - self.apex[1]) / self.pixels
        r, angle = np.hypot(x, y), np.arctan2(x, y)
        inside = (np.abs(angle) <= self.half_angle) & (r >= self.face) & (r <= self.depth)
        return r, angle, inside

    def samples(
        self, ranges: np.ndarray, angles: np.ndarray, beams: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Column and row among the `beams` (R, A) samples, float32."""
        column = (angles / self.half_angle + 1) / 2 * (beams[1] - 1)
        row = (ranges - self.face) / (self.depth - self.face) * (beams[0] - 1)
        return column.astype(np.float32), row.astype(np.float32)
