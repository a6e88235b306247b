"""What an ultrasound clip shows: B-mode, colour Doppler, contrast – or a trace, which is refused.

Tags come first: ImageType (DICOM PS3.3 C.8.5.6.1.1), regions, contrast agent. Where they do not
say, pixels tell colour Doppler from B-mode, and `sector` refuses traces that scroll or are swept.
Contrast is known from tags alone: bubbles look like a gain that is set high, and a low mechanical
index is no proof of them.
"""

import re
from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines.clip import Region, Rejected

# Bits of ImageType value 4
TWO_D, COLOUR, POWER = 0x0001, 0x0010, 0x0100
TRACES = 0x0002 | 0x0004 | 0x0008 | 0x0020  # M-mode, CW Doppler, PW Doppler, colour M-mode
COLOURED = 40  # grey levels between a pixel's strongest and weakest channel
DOPPLER = 0.01  # share of the sector that is coloured, in a median frame, in colour Doppler
LOOKED_AT = 16  # frames
DIM = 32  # grey levels of a pixel's strongest channel; in darker ones a hue is noise
TINTED = 0.8  # share of the other pixels that have a hue, in a tinted picture
SAME_HUE = np.radians(30)
BANDS, TRACE_BANDS = 8, 3  # of the picture's height; an ECG scrolls, too, but in one or two
STEPS, SHIFT = (1, 4), 24  # frames between two that are compared; pixels they may be apart
LEFT, RIGHT = 1, 2


def from_tags(image_type: Sequence[str], regions: Sequence[Region], contrast: bool) -> str:
    """One of `records.MODES`, or empty where the tags do not say.

    A region of colour flow proves it; one of tissue proves nothing, machines leave it so when
    flow is switched on.

    Raises:
        Rejected: an M-mode or a spectral Doppler trace, alone or beside an image.
    """
    bits = _bits(image_type)
    if bits & TRACES:
        raise Rejected("m_mode_or_spectral", f"ImageType {bits:04x}")
    for region in regions:
        if region.kind in ("m_mode", "spectral"):
            raise Rejected("m_mode_or_spectral", f"a region of kind {region.kind}")
    if bits & (COLOUR | POWER) or any(region.flow for region in regions):
        return "colour_doppler"
    if contrast:
        return "contrast"
    return "b_mode" if bits == TWO_D else ""


def _bits(image_type: Sequence[str]) -> int:
    """Of value 4; 0 where there is none, or one of another modality."""
    value = str(image_type[3]) if len(image_type) > 3 else ""
    return int(value, 16) if re.fullmatch("[0-9A-Fa-f]{4}", value) else 0


def coloured(frames: np.ndarray, mask: np.ndarray) -> bool:
    """Whether [T, H, W] or [T, H, W, 3] frames show flow inside a sector [H, W] bool.

    Buttons and banners around it do not count, nor does a tint: one hue for nearly all that is
    not black, where flow has grey tissue around it.
    """
    if frames.ndim == 3:
        return False
    some = np.linspace(0, len(frames) - 1, min(LOOKED_AT, len(frames))).astype(int)
    rows, columns = np.nonzero(mask)
    pixels = frames[some][:, rows, columns].astype(np.int16)  # [t, n, 3]
    highest = pixels.max(-1)
    spread = highest - pixels.min(-1)  # [t, n]
    if np.median((spread > COLOURED).mean(-1)) <= DOPPLER:
        return False
    lit = highest > DIM
    saturated = lit & (spread > 0.15 * highest)
    return saturated.sum() < TINTED * lit.sum() or not _one_hue(pixels[saturated])


def _one_hue(pixels: np.ndarray) -> bool:
    """Whether colours [n, 3] differ in brightness alone."""
    red, green, blue = pixels.T.astype(np.float32)
    hue = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
    away = np.angle(np.exp(1j * (hue - np.angle(np.exp(1j * hue).mean()))))
    return bool(np.mean(np.abs(away) < SAME_HUE) > 0.9)


def scrolls(frames: np.ndarray) -> bool:
    """Whether much of the picture, grey [T, H, W], is a trace that moves sideways as it is."""
    directions = []
    for step in STEPS:
        for first in np.linspace(0, len(frames) - 1 - step, 8).clip(0).astype(int):
            a, b = frames[first], frames[min(first + step, len(frames) - 1)]
            directions.append(_direction(a, b))
    seen = np.reshape(directions, (len(STEPS), -1, BANDS))
    return any(((seen == way).mean(1) > 0.6).any(0).sum() >= TRACE_BANDS for way in (LEFT, RIGHT))


def _direction(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two frames [H, W] → [BANDS]: LEFT or RIGHT where b is a moved there, else 0."""
    size = a.shape[1], 4 * BANDS
    a, b = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in (a, b))
    a, b = (np.float32(frame).reshape(BANDS, 4, -1) for frame in (a, b))
    changed = np.flatnonzero(np.abs(b - a).mean((0, 1)) > 0.25)
    if not len(changed) or np.ptp(changed) < 4 * SHIFT:
        return np.zeros(BANDS)
    # Away from the trace's ends, where new columns come in.
    first, last = changed[0] + SHIFT, changed[-1] - SHIFT
    shifts = np.arange(-SHIFT, SHIFT + 1)
    inner = b[..., first:last]
    errors = np.stack([np.abs(inner - a[..., first + k : last + k]).mean((1, 2)) for k in shifts])
    still = errors[SHIFT]
    best = shifts[errors.argmin(0)]
    moved = (errors.min(0) < 0.3 * still) & (still > 0.5)
    return np.where(moved, np.where(best > 0, LEFT, RIGHT), 0)
