"""Colour Doppler of a simulated heart: blood's velocity along the beam, in a box, as colours.

Red comes towards the probe and blue goes away. Faster than the Nyquist limit, colours wrap; where
flow is turbulent they become a mosaic with green in it. Mitral inflow and aortic outflow follow the
ventricle's volume; a regurgitant aortic valve throws a jet into the ventricle all through diastole.
"""

from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines.phantom_fan import Fan
from data_pipelines.phantom_long_axis import LongAxis
from data_pipelines.phantom_scan import Moments
from data_pipelines.phantom_tissue import BLOOD

COLOUR_VIEWS = ("A4C", "PLAX")  # of phantom_image.VIEWS
NYQUIST = 0.6  # m/s
WALL_FILTER = 0.05  # m/s; what is slower, is tissue
JITTER = 0.1  # of every velocity
TRACT = 2.0  # cm, the outflow tract's width
REGURGITANT = 4.0  # m/s
# Of the jet: share of the outflow tract's width (less than a quarter is mild, two thirds are
# severe: Zoghbi et al., ASE guideline 2017), and length in cm.
JETS = {"none": (0.0, 0.0), "early": (0.2, 2.2), "significant": (0.65, 5.0)}
FLOW = 0.14  # m/s, at one contraction a second and an ejection fraction of 60 %


class Jet(NamedTuple):
    """Blood that streams from (u, v) along a direction."""

    start: tuple[float, float]  # cm
    direction: tuple[float, float]
    length: float  # cm
    half_width: float  # cm
    speed: float  # m/s
    turbulence: float = 0.0  # m/s, standard deviation


def jets(shape: LongAxis, contraction: float, rate: float, ejecting: bool) -> list[Jet]:
    """Streams now; `rate` is the contraction's change in a second, negative in diastole.

    The regurgitant jet lasts as long as the aortic valve is closed.
    """
    heart = shape.heart
    parasternal = shape.view == "PLAX"  # an A4C is tilted forward for the outflow tract only
    annulus, root = shape.annulus(contraction), (1.0 if parasternal else 0.45) * shape.root
    speed = FLOW * heart.ejection_fraction / 60 * abs(rate)
    if ejecting:
        length = 5.5 if parasternal else 3.0
        return [Jet((root, annulus - 3.0), (0.0, 1.0), length, 0.5 * TRACT, speed)]
    inflow = Jet((0.3, annulus + 0.8), (0.0, -1.0), 0.8 * heart.length, 1.4, speed * (rate < 0))
    share, length = JETS[heart.aortic_regurgitation]
    if not share:
        return [inflow]
    back = Jet((root, annulus + 0.2), (0.25, -0.97), length, share * TRACT / 2, REGURGITANT, 1.5)
    return [inflow, back]


def add_colour(
    frames: np.ndarray,
    labels: np.ndarray,
    shape: LongAxis,
    fan: Fan,
    moments: Moments,
    times: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Grey [T, H, W] and labels [T, H, W] → [T, H, W, 3] uint8 with colour inside a box."""
    r, angle, _ = fan.polar(frames.shape[1:])
    u, v = fan.to_heart(r, angle)
    probe = fan.to_heart(np.array(0.0), np.array(0.0))
    towards = np.stack([probe[0] - u, probe[1] - v]) / np.maximum(r, 1e-6)  # unit vectors
    box, outline = _box(shape, fan, r, angle)
    rate = np.gradient(moments.contraction, times)
    blood = np.isin(labels, BLOOD)
    grain = (frames.shape[1] // 4, frames.shape[2] // 4)  # colour is coarser than grey
    shown = np.repeat(frames[..., None], 3, -1)
    for t, frame in enumerate(shown):
        du, dv = moments.shift[t]
        velocity = np.zeros(r.shape, np.float32)
        variance = np.zeros(r.shape, np.float32)
        noise = cv2.resize(rng.standard_normal(grain, np.float32), r.shape[::-1])
        for jet in jets(shape, moments.contraction[t], rate[t], moments.aortic[t] > 0):
            along = (u - du - jet.start[0]) * jet.direction[0]
            along += (v - dv - jet.start[1]) * jet.direction[1]
            across = (u - du - jet.start[0]) * jet.direction[1]
            across -= (v - dv - jet.start[1]) * jet.direction[0]
            part = np.clip(along / jet.length, 0, 1)
            width = jet.half_width * (0.8 + 0.4 * part)
            ends = np.clip(4 * part, 0, 1) * np.clip(4 * (1 - part), 0, 1)
            core = np.clip(1 - (across / width) ** 2, 0, 1) * ends
            speed = core * (jet.speed + (jet.turbulence + JITTER * jet.speed) * noise)
            velocity += speed * (towards[0] * jet.direction[0] + towards[1] * jet.direction[1])
            variance = np.maximum(variance, core * (jet.turbulence > 0))
        seen = box & blood[t] & (np.abs(velocity) > WALL_FILTER)
        wrapped = (velocity + NYQUIST) % (2 * NYQUIST) - NYQUIST
        frame[seen] = colours(wrapped[seen], variance[seen])
        frame[outline] = 170
    return shown


def colours(velocity: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Velocities [N] within ± NYQUIST and variance [N] in [0, 1] → [N, 3] uint8 RGB."""
    strength = np.abs(velocity) / NYQUIST
    main, bright = 90 + 165 * np.sqrt(strength), 190 * strength**2 + 110 * variance
    red = np.where(velocity > 0, main, 0)
    blue = np.where(velocity > 0, 0, main)
    return np.clip(np.stack([red, bright, blue], -1), 0, 255).astype(np.uint8)


def _box(
    shape: LongAxis, fan: Fan, r: np.ndarray, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The colour box, a part of the sector around the base of the heart, and its outline."""
    length, half = shape.heart.length, shape.heart.half_width
    corners = np.array([(u, v) for u in (-half, half) for v in (0.35 * length, length + 2.2)])
    ranges, angles = fan.from_heart(*corners.T)
    near, far = ranges.min(), min(ranges.max(), fan.depth - 0.3)
    left, right = (
        max(angles.min(), -0.95 * fan.half_angle),
        min(angles.max(), 0.95 * fan.half_angle),
    )
    box = (r > near) & (r < far) & (angle > left) & (angle < right)
    return box, box & ~cv2.erode(box.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
