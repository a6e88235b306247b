"""Augmentation for echo: what another machine, another hand or another heart rate would change.

The sector keeps its shape and stays in view whole; outside it there is nothing, as before. All is
off by default, as in the paper, and drawn from a clip's own random numbers, so that it depends on
seed, epoch and record alone. On the host: the same warp serves all frames of a clip, and its
sector decides where masks are drawn.
"""

import dataclasses

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """The most that each change may be; 0 leaves it out."""

    scale: float = 0.0  # 0.2: 0.8 to 1.2 times the size, moved by up to 0.1 of the side
    rotate: float = 0.0  # degrees, either way
    gain: float = 0.0  # 0.2: grey levels times 0.8 to 1.2
    gamma: float = 0.0  # 0.2: grey levels to the power of 1/1.2 to 1.2, black and white kept
    speed: float = 0.0  # 0.2: the window lasts 1/1.2 to 1.2 times as long

    def problems(self) -> list[str]:
        """What is wrong with the values, naming them."""
        limits = {"scale": 1, "rotate": 90, "gain": 1, "gamma": 4, "speed": 4}
        return [
            f"augment.{name}={value} is not in [0, {limits[name]})"
            for name, value in dataclasses.asdict(self).items()
            if not 0 <= value < limits[name]
        ]


NONE = Augment()


def draw_duration(rng: np.random.Generator, augment: Augment) -> float:
    """By how much a window lasts longer than asked for."""
    return _factor(rng, augment.speed) if augment.speed else 1.0


def augment_clip(
    clip: np.ndarray, sector: np.ndarray | None, rng: np.random.Generator, augment: Augment
) -> np.ndarray | None:
    """Change a clip [T, S, S] or [T, S, S, 3] uint8 in place; returns where its sector is now.

    Args:
      clip: contiguous; its pixels outside the sector become 0.
      sector: [S, S] bool; None where it is not known: the whole frame then stays in view.
      rng: draws what is done, the same for all frames.
      augment: how much at most.
    """
    size = clip.shape[1]
    if augment.scale or augment.rotate:
        inside = np.ones((size, size), np.uint8) if sector is None else sector.astype(np.uint8)
        warp = draw_warp(inside, rng, augment)
        inside = cv2.warpAffine(inside, warp, (size, size), flags=cv2.INTER_NEAREST)
        for i, frame in enumerate(clip):
            clip[i] = cv2.warpAffine(frame, warp, (size, size), flags=cv2.INTER_LINEAR)
        sector = inside.astype(bool)
    if augment.gain or augment.gamma:
        levels = np.linspace(0, 1, 256)
        if augment.gamma:
            levels **= _factor(rng, augment.gamma)
        levels *= rng.uniform(1 - augment.gain, 1 + augment.gain)
        table = np.clip(255 * levels + 0.5, 0, 255).astype(np.uint8)  # 0 stays 0
        for i, frame in enumerate(clip):
            clip[i] = cv2.LUT(frame, table)
    if sector is not None and (augment.scale or augment.rotate or augment.gain or augment.gamma):
        clip *= sector.reshape(size, size, *[1] * (clip.ndim - 3)).astype(np.uint8)
    return sector


def draw_warp(inside: np.ndarray, rng: np.random.Generator, augment: Augment) -> np.ndarray:
    """A turn, scaling and shift, [2, 3], after which `inside` [S, S] uint8 is still in the frame.

    Where it does not fit after the turn it is made smaller.
    """
    size = len(inside)
    x, y, width, height = cv2.boundingRect(inside)
    rows = np.flatnonzero(inside.any(axis=1))
    columns = inside[rows] > 0
    edges = np.stack([columns.argmax(1), size - 1 - columns[:, ::-1].argmax(1)])  # [2, rows]
    outline = np.stack([edges, np.broadcast_to(rows, edges.shape)], -1).reshape(-1, 2)  # x, y
    centre = np.array([x + (width - 1) / 2, y + (height - 1) / 2])
    angle = np.deg2rad(rng.uniform(-augment.rotate, augment.rotate))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = (outline - centre) @ turn.T
    low, high = turned.min(0) - 0.5, turned.max(0) + 0.5  # to the pixels' edges
    fits = size / (high - low).max()
    scale = rng.uniform(1 - augment.scale, max(1 - augment.scale, min(1 + augment.scale, fits)))
    scale = min(scale, fits)
    shift = rng.uniform(-augment.scale / 2, augment.scale / 2, 2) * size
    # The least and the largest place of the centre at which all is in the frame, whose edges are
    # half a pixel beyond its first and last pixel's centre.
    centre_now = np.clip(centre + shift, -0.5 - scale * low, size - 0.5 - scale * high)
    matrix = scale * turn
    return np.concatenate([matrix, (centre_now - matrix @ centre)[:, None]], axis=1)


def _factor(rng: np.random.Generator, most: float) -> float:
    """Between 1 / (1 + most) and 1 + most, larger as often as smaller."""
    return float((1 + most) ** rng.uniform(-1, 1))
