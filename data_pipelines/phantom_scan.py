"""Scans a moving heart: scatterers fixed in its tissue, seen through a fan of beams.

A fixed field of random complex scatterers, weighted by the tissue's echo strength, is carried along
by the heart's motion, blurred by a point spread that is constant along range and angle (so that
speckle widens with depth), detected, log-compressed and scan-converted. A second field is mixed in
as the plane drifts, so that speckle decorrelates; noise is drawn anew for every frame.
"""

from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines import phantom_tissue
from data_pipelines.phantom_fan import Fan
from data_pipelines.phantom_long_axis import LongAxis
from data_pipelines.phantom_short_axis import ShortAxis

DECIBELS = 60.0  # over the 255 grey levels
MOTION_STEP = 0.35  # cm, grid on which the motion is worked out
NOISE = 8.0  # of the receiver, amplitude


class Moments(NamedTuple):
    """What moves, at each frame [T]."""

    contraction: np.ndarray  # 0 at the usual end-diastole, 1 at end-systole
    mitral: np.ndarray  # opening, 0 to 1
    aortic: np.ndarray
    shift: np.ndarray  # [T, 2] cm, (u, v) by which breath and the probe's drift move the heart
    turn: np.ndarray  # rad, how far the plane has turned out of itself


class Scan(NamedTuple):
    """What `scan` makes."""

    frames: np.ndarray  # [T, H, W] uint8
    labels: np.ndarray  # [T, H, W] uint8, of phantom_tissue
    sector: np.ndarray  # [H, W] bool


def gain(fan: Fan, ranges: np.ndarray, angles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[R, A] decibels, float32: the machine's gain and what the way through the chest takes.

    Attenuation that the time gain leaves, weak beams, drop-out of a part of the wall, and
    sometimes the shadow of a rib or of lung.
    """
    deep = (ranges - ranges[0]) / (ranges[-1] - ranges[0])
    level = rng.uniform(0, 4) - rng.uniform(4, 11) * deep**1.5
    knots = np.linspace(angles[0, 0], angles[0, -1], 12)
    weakness = np.abs(rng.standard_normal(12)) * 2.0
    weakness[[0, -1]] += rng.uniform(2, 9, 2)
    level = level - np.interp(angles, knots, weakness) * (0.4 + 0.6 * deep)
    side = rng.choice((-1, 1), 2) * rng.uniform((0.3, 0.5), (0.7, 0.8)) * fan.half_angle
    patch = ((deep - rng.uniform(0.35, 0.8)) / 0.12) ** 2 + ((angles - side[0]) / 0.14) ** 2
    level -= rng.uniform(0, 12) * np.exp(-patch)
    if rng.uniform() < 0.25:
        across = (angles - side[1]) / np.deg2rad(rng.uniform(3, 6))
        below = np.clip((ranges - 1.2) / 0.6, 0, 1)
        level -= rng.uniform(8, 16) * np.exp(-(across**4)) * below
    return (level + rng.uniform(-4, 3)).astype(np.float32)


def scan(
    shape: LongAxis | ShortAxis,
    fan: Fan,
    size: tuple[int, int],
    moments: Moments,
    rng: np.random.Generator,
) -> Scan:
    """A clip on a screen of `size` (H, W), the sector alone; rng decides speckle and gain."""
    ranges, angles = fan.beams()
    beams = (len(ranges), angles.size)
    u, v = (a.astype(np.float32) for a in fan.to_heart(ranges, angles))

    # The atlas: the heart at end-diastole, in texels.
    texel = 0.8 / fan.pixels
    (u0, u1), (v0, v1) = shape.u_range, shape.v_range
    grid_u, grid_v = np.arange(u0, u1, texel)[None], np.arange(v0, v1, texel)[:, None]
    atlas_labels = shape.labels(grid_u + texel / 2, grid_v + texel / 2)
    probe = fan.to_heart(np.array(0.0), np.array(0.0))
    probe = ((probe[0] - u0) / texel, (probe[1] - v0) / texel)
    echo = phantom_tissue.echogenicity(atlas_labels, texel, probe, rng)
    amplitude = 10 ** (np.arange(256, dtype=np.float32) / 255 * DECIBELS / 20)
    weights = cv2.LUT(echo, amplitude)[..., None]
    atlas = [_complex_noise(*echo.shape, rng) * weights for _ in range(2)]

    # Motion on a coarse grid: where each point was at end-diastole, in texels from where it is.
    coarse_u = np.arange(u0, u1, MOTION_STEP)[None]
    coarse_v = np.arange(v0, v1, MOTION_STEP)[:, None]
    rest_u, rest_v = shape.origins(
        coarse_u - moments.shift[:, :1, None], coarse_v - moments.shift[:, 1:, None],
        moments.contraction,
    )  # fmt: skip
    motion = np.stack([rest_u - np.float32(coarse_u), rest_v - np.float32(coarse_v)], -1)
    motion *= np.float32(1 / texel)
    on_grid = (
        ((u - u0) / MOTION_STEP).astype(np.float32),
        ((v - v0) / MOTION_STEP).astype(np.float32),
    )
    here = np.stack([(u - u0) / texel, (v - v0) / texel], -1).astype(np.float32)

    # What the machine adds, and how it shows it.
    axial = 0.045 / (ranges[1, 0] - ranges[0, 0])  # samples
    lateral = np.deg2rad(rng.uniform(0.6, 0.95)) / (angles[0, 1] - angles[0, 0])
    # A blur of independent samples loses 4 pi sigma sigma of their power.
    spread = 10 * np.log10(4 * np.pi * max(axial, 0.3) * max(lateral, 0.3))
    level = gain(fan, ranges, angles, rng) + np.float32(spread)
    still = _complex_noise(*beams, rng)  # reverberation near the face stays where it is
    still *= (10 ** (2.0 - 0.55 * (ranges - fan.face)))[..., None].astype(np.float32)
    noise = _complex_noise(2 * beams[0], 2 * beams[1], rng) * np.float32(NOISE)
    r, angle, sector = fan.polar(size)
    top, left = (int(np.flatnonzero(sector.any(axis))[0]) for axis in (1, 0))
    bottom, right = (int(np.flatnonzero(sector.any(axis))[-1]) + 1 for axis in (1, 0))
    box = slice(top, bottom), slice(left, right)
    column, row = fan.samples(r[box], angle[box], beams)
    smooth = cv2.convertMaps(column, row, cv2.CV_16SC2)
    nearest, _ = cv2.convertMaps(column, row, cv2.CV_16SC2, nninterpolation=True)
    shown = sector[box].astype(np.uint8) * 255
    is_blood = np.isin(np.arange(256), phantom_tissue.BLOOD).astype(np.uint8) * 255
    # Strands lie in blood and outshine it.
    boost = np.maximum(amplitude / amplitude[phantom_tissue.BLOOD_ECHO], 1)

    count = len(moments.contraction)
    frames, labels = np.zeros((2, count, *size), np.uint8)
    for t in range(count):
        where = cv2.remap(motion[t], *on_grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        where += here
        x, y = cv2.convertMaps(*cv2.split(where), cv2.CV_16SC2)
        turn = moments.turn[t]
        field = cv2.addWeighted(atlas[0], np.cos(turn), atlas[1], np.sin(turn), 0)
        field = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        polar_labels = cv2.remap(atlas_labels, x, None, cv2.INTER_NEAREST)
        strands = shape.strands(moments.contraction[t], moments.mitral[t], moments.aortic[t])
        if strands:
            drawn = np.zeros(beams, np.uint8)
            for strand in strands:
                r, angle = fan.from_heart(*(strand.points + moments.shift[t]).T)
                points = np.int32(np.stack(fan.samples(r, angle, beams), -1) * 16)
                thick = max(1, round(strand.thickness * fan.pixels))
                cv2.polylines(drawn, [points], False, strand.echo, thick, cv2.LINE_AA, 4)
            drawn &= cv2.LUT(polar_labels, is_blood)
            bright = cv2.LUT(drawn, boost)
            field *= cv2.merge([bright, bright])
        field += still
        at = rng.integers(0, beams)
        field += noise[at[0] : at[0] + beams[0], at[1] : at[1] + beams[1]]
        field = cv2.GaussianBlur(field, (0, 0), sigmaX=lateral, sigmaY=axial)
        power = field[..., 0] ** 2 + field[..., 1] ** 2
        decibels = cv2.addWeighted(cv2.log(power + np.float32(1e-6)), 10 / np.log(10), level, 1, 0)
        polar = cv2.multiply(decibels, 255 / DECIBELS, dtype=cv2.CV_8U)
        frames[t][box] = cv2.remap(polar, *smooth, cv2.INTER_LINEAR) & shown
        labels[t][box] = cv2.remap(polar_labels, nearest, None, cv2.INTER_NEAREST) & shown
    return Scan(frames, labels, sector)


def _complex_noise(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((rows, columns, 2), dtype=np.float32)
