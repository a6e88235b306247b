"""Simulated echo clips: scatterers fixed in moving tissue, seen through a fan of beams.

A fixed field of random complex scatterers is carried along by the heart's motion, weighted by the
tissue's echo strength, blurred by a point spread that is constant along range and angle (so that
speckle widens with depth), detected, log-compressed and scan-converted.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from data_pipelines import phantom_anatomy
from data_pipelines.phantom_heart import Heart
from data_pipelines.phantom_rhythm import Cycle, beat_times, first_frames_after, phase_at

VIEWS = ("A4C", "A2C", "PLAX", "PSAX_MV")
DECIBELS = 60.0  # over the 255 grey levels
MOTION_STEP = 0.25  # cm, grid on which the motion is worked out
MASKS = {"LV": phantom_anatomy.LV, "LA": phantom_anatomy.LA, "RV": phantom_anatomy.RV,
         "RA": phantom_anatomy.RA, "myocardium": phantom_anatomy.MYOCARDIUM}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PhantomClip:
    """A simulated clip and the truth about it."""

    frames: np.ndarray  # [T, H, W] uint8
    times: np.ndarray  # [T] s, first is 0
    fps: float
    phase: np.ndarray  # [T] in [0, 1), 0 = end-diastole
    end_diastole: np.ndarray  # frame indices: the first frame at or after each R wave
    end_systole: np.ndarray  # frame indices: the first frame at or after each end of ejection
    volumes: np.ndarray  # [T] ml, left ventricle
    ejection_fraction: float  # percent
    heart_rate: float  # beats a minute, of the beats this clip shows
    view: str
    ecg: np.ndarray  # [T, SAMPLES] one lead, from each frame to the next
    sector: np.ndarray  # [H, W] bool
    masks: dict[str, np.ndarray]  # LV, LA, RV, RA, myocardium: [T, H, W] bool


ECG_SAMPLES = 8  # a frame


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

    @classmethod
    def draw(
        cls, view: str, heart: Heart, size: tuple[int, int], rng: np.random.Generator
    ) -> "Fan":
        """A sector that shows `view` of `heart` on a screen of `size` (H, W)."""
        height, width = size
        half_angle = np.deg2rad(rng.uniform(70, 95)) / 2
        if view == "PLAX":
            tilt = np.deg2rad(rng.uniform(-80, -70))
            z = 3.6 + heart.right_width + heart.half_width
            place = (-0.8 * heart.length + rng.uniform(-0.4, 0.4), z + 0.4)
            depth = z + 2 * heart.half_width + rng.uniform(2.0, 4.0)
        elif view == "PSAX_MV":
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
                   heart=place, tilt=tilt)  # fmt: skip

    def beams(self) -> tuple[np.ndarray, np.ndarray]:
        """Ranges [R, 1] in cm and angles [1, A] in rad of the samples along the beams."""
        ranges = np.linspace(self.face, self.depth, int(1.05 * self.pixels * self.depth))
        arc = 2 * self.half_angle * 0.7 * self.depth
        angles = np.linspace(-self.half_angle, self.half_angle, int(self.pixels * arc))
        return ranges[:, None], angles[None]

    def to_heart(self, ranges: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Range and angle from the fan's apex → (u, v) of the heart, cm."""
        x = ranges * np.sin(angles) - self.heart[0]
        z = ranges * np.cos(angles) - self.heart[1]
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        return x * c + z * s, z * c - x * s

    def from_heart(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(u, v) of the heart, cm → range and angle from the fan's apex."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        x, z = u * c - v * s + self.heart[0], u * s + v * c + self.heart[1]
        return np.hypot(x, z), np.arctan2(x, z)

    def screen(self, size: tuple[int, int], beams: tuple[int, int]) -> tuple[np.ndarray, ...]:
        """For each pixel: column and row among the `beams` (R, A) samples, and whether inside."""
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        x, y = (x - self.apex[0]) / self.pixels, (y - self.apex[1]) / self.pixels
        r, angle = np.hypot(x, y), np.arctan2(x, y)
        column = (angle / self.half_angle + 1) / 2 * (beams[1] - 1)
        row = (r - self.face) / (self.depth - self.face) * (beams[0] - 1)
        inside = (np.abs(angle) <= self.half_angle) & (r >= self.face) & (r <= self.depth)
        return column.astype(np.float32), row.astype(np.float32), inside


def simulate(
    view: str, seed: int, size: tuple[int, int] = (480, 640), heart: Heart | None = None
) -> PhantomClip:
    """A clip of 2–4 s at 25–60 frames a second, the same for the same arguments.

    `view` is one of `VIEWS`, `size` is (H, W) in pixels; without `heart` the seed draws one too.
    """
    rng = np.random.default_rng([seed, VIEWS.index(view)])
    heart = heart or Heart.draw(rng)
    cycle = Cycle.at(heart.heart_rate)
    fps, seconds = float(np.round(rng.uniform(25, 60), 1)), rng.uniform(2, 4)
    beats = beat_times(cycle, seconds, heart.rr_variation, rng)
    times = np.arange(int(seconds * fps)) / fps
    phase = phase_at(times, beats)
    contraction = cycle.contraction(phase)
    fan = Fan.draw(view, heart, size, rng)
    frames, labels, sector = _scan(view, heart, fan, size, times, phase, cycle, rng)
    ticks = times[:, None] + np.arange(ECG_SAMPLES) / (ECG_SAMPLES * fps)
    shown = beats[(beats > -cycle.rr) & (beats < seconds + cycle.rr)]
    return PhantomClip(
        frames=frames,
        times=times,
        fps=fps,
        phase=phase,
        end_diastole=first_frames_after(phase, 0.0),
        end_systole=first_frames_after(phase, cycle.end_systole),
        volumes=heart.volumes(contraction),
        ejection_fraction=heart.ejection_fraction,
        heart_rate=60.0 / float(np.diff(shown).mean()),
        view=view,
        ecg=cycle.ecg(phase_at(ticks, beats)),
        sector=sector,
        masks={name: labels == label for name, label in MASKS.items()},
    )


def _complex_noise(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((rows, columns, 2), dtype=np.float32)


def _gain(ranges: np.ndarray, angles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[R, A] decibels: attenuation left by the time gain, weak beams, shadows of ribs and lung."""
    deep = (ranges - ranges[0]) / (ranges[-1] - ranges[0])
    depth_gain = rng.uniform(0, 4) - rng.uniform(4, 11) * deep**1.5
    knots = np.linspace(angles[0, 0], angles[0, -1], 12)
    weakness = np.abs(rng.standard_normal(12)) * 2.0
    weakness[[0, -1]] += rng.uniform(2, 9, 2)
    return depth_gain - np.interp(angles, knots, weakness) * (0.4 + 0.6 * deep)


def _scan(
    view: str,
    heart: Heart,
    fan: Fan,
    size: tuple[int, int],
    times: np.ndarray,
    phase: np.ndarray,
    cycle: Cycle,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames [T, H, W] uint8, labels [T, H, W] uint8 and the sector [H, W] bool."""
    shape = phantom_anatomy.anatomy(heart, view)
    ranges, angles = fan.beams()
    beams = (len(ranges), angles.size)
    u, v = (a.astype(np.float32) for a in fan.to_heart(ranges, angles))

    # The atlas: the heart at end-diastole, in texels.
    texel = 0.8 / fan.pixels
    (u0, u1), (v0, v1) = shape.u_range, shape.v_range
    grid_u, grid_v = np.arange(u0, u1, texel)[None], np.arange(v0, v1, texel)[:, None]
    label_atlas = shape.labels(grid_u, grid_v)
    probe = fan.to_heart(np.array(0.0), np.array(0.0))
    probe = ((probe[0] - u0) / texel, (probe[1] - v0) / texel)
    echo_atlas = phantom_anatomy.echogenicity(label_atlas, texel, probe, rng)
    scatterers = [_complex_noise(*label_atlas.shape, rng) for _ in range(2)]

    # Motion, on a coarse grid: where each point was at end-diastole.
    contraction = cycle.contraction(phase)
    coarse_u = np.arange(u0, u1, MOTION_STEP)[None]
    coarse_v = np.arange(v0, v1, MOTION_STEP)[:, None]
    rest_u, rest_v = shape.origins(coarse_u, coarse_v, contraction)
    motion = np.stack([rest_u - coarse_u, rest_v - coarse_v], -1).astype(np.float32)
    breath = 0.25 * np.sin(2 * np.pi * (0.25 * times + rng.uniform()))  # cm
    drift = 0.5 * np.sin(2 * np.pi * (0.2 * times + rng.uniform()))  # rad, out of the plane

    decibels = np.arange(256, dtype=np.float32) / 255 * DECIBELS
    amplitude = (10 ** (decibels / 20)).astype(np.float32)
    gain = (_gain(ranges, angles, rng) + rng.uniform(-4, 3)).astype(np.float32)
    axial = 0.045 / (ranges[1, 0] - ranges[0, 0])  # samples
    lateral = np.deg2rad(rng.uniform(0.6, 0.95)) / (angles[0, 1] - angles[0, 0])
    # A blur of independent samples loses 4 pi sigma sigma of their power.
    gain += np.float32(10 * np.log10(4 * np.pi * max(axial, 0.3) * max(lateral, 0.3)))
    still = _complex_noise(*beams, rng)  # reverberation near the face stays where it is
    still *= (10 ** (1.6 - 0.55 * (ranges - fan.face)))[..., None].astype(np.float32)
    noise = _complex_noise(2 * beams[0], 2 * beams[1], rng) * np.float32(8.0)
    column, row, sector = fan.screen(size, beams)
    column_row, weights = cv2.convertMaps(column, row, cv2.CV_16SC2)
    nearest, _ = cv2.convertMaps(column, row, cv2.CV_16SC2, nninterpolation=True)
    outside = (~sector).astype(np.uint8)

    frames = np.empty((len(times), *size), np.uint8)
    labels = np.empty((len(times), *size), np.uint8)
    for t in range(len(times)):
        now_u, now_v = u, v - np.float32(breath[t])
        moved = cv2.remap(
            motion[t],
            (now_u - np.float32(u0)) / np.float32(MOTION_STEP),
            (now_v - np.float32(v0)) / np.float32(MOTION_STEP),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        x = (now_u + moved[..., 0] - np.float32(u0)) / np.float32(texel)
        y = (now_v + moved[..., 1] - np.float32(v0)) / np.float32(texel)
        x, y = cv2.convertMaps(x, y, cv2.CV_16SC2)
        echo = cv2.remap(echo_atlas, x, y, cv2.INTER_LINEAR, borderValue=128)
        polar_labels = cv2.remap(label_atlas, x, y, cv2.INTER_NEAREST)
        field = cv2.addWeighted(
            scatterers[0], float(np.cos(drift[t])), scatterers[1], float(np.sin(drift[t])), 0
        )
        field = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for leaflet in shape.leaflets(
            contraction[t], cycle.mitral_opening(phase[t]), cycle.aortic_opening(phase[t])
        ):
            r, angle = fan.from_heart(leaflet[:, 0], leaflet[:, 1] + breath[t])
            points = np.stack([
                (angle / fan.half_angle + 1) / 2 * (beams[1] - 1),
                (r - fan.face) / (fan.depth - fan.face) * (beams[0] - 1),
            ], -1)  # fmt: skip
            thick = max(1, round(0.13 * fan.pixels))
            cv2.polylines(echo, [np.int32(points * 16)], False, 165, thick, cv2.LINE_AA, 4)
        field *= cv2.LUT(echo, amplitude)[..., None]
        field += still
        at = rng.integers(0, beams)
        field += noise[at[0] : at[0] + beams[0], at[1] : at[1] + beams[1]]
        field = cv2.GaussianBlur(field, (0, 0), sigmaX=lateral, sigmaY=axial)
        power = field[..., 0] ** 2 + field[..., 1] ** 2
        grey = (cv2.log(power + 1e-6) * np.float32(10 / np.log(10)) + gain) * (255 / DECIBELS)
        polar = np.clip(grey, 0, 255).astype(np.uint8)
        frame = cv2.remap(polar, column_row, weights, cv2.INTER_LINEAR)
        frames[t] = np.where(outside, 0, frame)
        labels[t] = cv2.remap(polar_labels, nearest, None, cv2.INTER_NEAREST)
    labels *= sector
    return frames, labels, sector
