"""The ultrasound sector of a clip: found, fitted with a geometry, and verified.

The result is an allow-list. Whatever lies outside – names, dates, rulers, ECG – is never looked
at, and a clip whose sector cannot be verified is refused.
"""

import dataclasses
import functools

import cv2
import numpy as np
from scipy import ndimage

from data_pipelines.clip import Rejected
from data_pipelines.fan import fan_mask, fit_fan, refine

FRAMES, SIDE = 24, 160  # the search looks at so many frames, reduced to so many pixels
STILL, FLICKER = 1.0, 0.6  # grey levels: a still screen's deviation at most, tissue's above it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sector:
    """Where the image is, in pixels of the frames it was found in."""

    mask: np.ndarray  # [H, W] bool
    apex: tuple[float, float]  # x, y; may lie outside the picture
    angles: tuple[float, float]  # rad from straight down, left < right
    radii: tuple[float, float]  # of the transducer's face and of the deepest arc


def find_sector(frames: np.ndarray) -> Sector:
    """The sector of grey frames [T, H, W] uint8.

    Raises:
      Rejected: nothing moves like tissue, or what moves is no fan with a still screen around it.
        A picture that moves all over (a cropped clip, a flickering or noisy recording) has no
        edge that could be verified: text may stand anywhere in it.
    """
    height, width = frames.shape[1:]
    scale = min(1.0, SIDE / max(height, width))
    small = reduced(frames[np.linspace(0, len(frames) - 1, FRAMES).astype(int)], scale)
    active, others = activity(small)
    if active.mean() < 0.03:
        raise Rejected("no_sector", "too little of the picture moves")
    fan = fit_fan(active)
    if fan is None:
        refuse_traces(frames, scale)
        raise Rejected("no_sector", "what moves is no fan with a still screen around it")
    fan = refine(fan, active, others)
    inside = fan_mask(fan, *active.shape)
    if (others & ~inside).sum() > 0.25 * inside.sum():
        raise Rejected("m_mode_or_spectral", "a second moving picture beside the sector")
    geometry = fan / np.array([scale, scale, 1, 1, scale, scale])
    x, y, left, right, near, far = geometry.tolist()
    return Sector(
        mask=fan_mask(geometry, height, width),
        apex=(x, y),
        angles=(left, right),
        radii=(near, far),
    )


def reduced(frames: np.ndarray, scale: float) -> np.ndarray:
    """[T, H, W] → [T, h, w] float32, areas averaged."""
    resize = functools.partial(cv2.resize, dsize=None, fx=scale, fy=scale)
    return np.stack([resize(f, interpolation=cv2.INTER_AREA) for f in frames]).astype(np.float32)


def activity(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T, h, w] → where anything flickers, [h, w] bool: the largest connected part, and all.

    Inside a sector speckle varies even where the image is nearly black; around it the screen is
    still, but for text that compression makes flicker, and that is too thin to survive opening.
    """
    deviation = cv2.blur(small.std(0), (3, 3))
    still = min(float(np.percentile(deviation, 20)), STILL)
    opened = ndimage.binary_opening(deviation > still + FLICKER, np.ones((3, 3)), iterations=2)
    # Away from the picture's border: blurring widened what moves by a pixel.
    opened = ndimage.binary_erosion(opened, np.ones((3, 3)), border_value=1)
    labels, count = ndimage.label(opened)
    if not count:
        return opened, opened
    parts = ndimage.sum_labels(opened, labels, range(1, count + 1))
    return ndimage.binary_fill_holes(labels == 1 + np.argmax(parts)), opened


def refuse_traces(frames: np.ndarray, scale: float) -> None:
    """M-mode and spectral Doppler: a picture that scrolls, or that a cursor rewrites."""
    first = np.linspace(0, len(frames) - 2, 8).astype(int)
    now, then = reduced(frames[first], scale), reduced(frames[first + 1], scale)
    changed = [columns_changed(a, b) for a, b in zip(now, then, strict=True)]
    scrolls = [shifted_better(a, b) for a, b in zip(now, then, strict=True)]
    swept = np.median(changed) < 0.3 and columns_changed(now[0], then[-1]) > 0.5
    if swept or np.mean(scrolls) > 0.5:
        raise Rejected("m_mode_or_spectral", "a trace that scrolls or is rewritten by a cursor")


def columns_changed(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the columns that differ between two frames."""
    return float((np.abs(b - a).mean(0) > 1.0).mean())


def shifted_better(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether b is a moved sideways by a few pixels, rather than a changed in place."""
    errors = {
        k: np.abs(b[:, max(-k, 0) : b.shape[1] - max(k, 0)]
                  - a[:, max(k, 0) : a.shape[1] - max(-k, 0)]).mean()
        for k in range(-8, 9)
    }  # fmt: skip
    best = min(errors, key=errors.get)
    return best != 0 and errors[best] < 0.3 * errors[0]
