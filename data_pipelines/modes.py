"""What an ultrasound clip shows: B-mode, colour Doppler, contrast – or a trace, which is refused.

Tags come first: ImageType (DICOM PS3.3 C.8.5.6.1.1), regions, contrast agent. Where they do not
say, pixels tell colour Doppler from B-mode, and `sector` refuses what scrolls or is swept. Contrast
is known from tags alone: bubbles look like a gain that is set high, and a low mechanical index
is no proof of them.
"""

import re
from collections.abc import Sequence

import numpy as np

from data_pipelines.clip import Region, Rejected

# Bits of ImageType value 4
TWO_D, COLOUR, POWER = 0x0001, 0x0010, 0x0100
TRACES = 0x0002 | 0x0004 | 0x0008 | 0x0020  # M-mode, CW Doppler, PW Doppler, colour M-mode
COLOURED = 40  # grey levels between a pixel's strongest and weakest channel
DOPPLER = 0.01  # share of the sector that is coloured, in a median frame, in colour Doppler
LOOKED_AT = 16  # frames


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


def from_pixels(frames: np.ndarray, mask: np.ndarray) -> str:
    """`colour_doppler` or `b_mode` of [T, H, W] or [T, H, W, 3] frames with a sector [H, W].

    Only colour inside the sector counts; buttons and banners around it do not.
    """
    if frames.ndim == 3:
        return "b_mode"
    some = np.linspace(0, len(frames) - 1, min(LOOKED_AT, len(frames))).astype(int)
    shares = []
    for index in some:
        pixels = frames[index][mask]  # [n, 3]
        shares.append(np.mean(pixels.max(-1) - pixels.min(-1) > COLOURED))
    return "colour_doppler" if np.median(shares) > DOPPLER else "b_mode"
