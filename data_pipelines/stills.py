"""Single pictures (PNG): stills, which are clips of one frame, and label maps."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.arrays import check_extent
from data_pipelines.clip import Clip, Rejected

GREY = ("1", "L", "LA")
COLOUR = ("P", "RGB", "RGBA")


def read(path: Path) -> Clip:
    """Read an 8-bit PNG as a clip of one frame, grey where its channels are equal.

    Raises:
        Rejected: no such PNG.
    """
    with Image.open(path, formats=["PNG"]) as image:
        if image.mode not in GREY + COLOUR:
            raise Rejected("unreadable", f"a picture of mode {image.mode}")
        check_extent(1, image.height, image.width, 3, still=True)
        picture = np.asarray(image.convert("L" if image.mode in GREY else "RGB"))
    if picture.ndim == 3 and not np.ptp(picture, axis=-1).any():
        picture = picture[..., 0]
    return Clip(frames=picture[None].copy(), times=None, fps_source="unknown")


def read_label_map(path: Path) -> np.ndarray:
    """A label map, [1, H, W] uint8: a number a pixel, be it shown in grey or by a palette.

    Raises:
        Rejected: `label_mismatch`: no such PNG.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("1", "L", "P"):
                raise Rejected("label_mismatch", f"a mask of mode {image.mode}: give 8-bit grey")
            check_extent(1, image.height, image.width, 1, still=True)
            return np.array(image)[None].astype(np.uint8)
    except OSError as error:  # Pillow's own of a damaged picture is one, too
        raise Rejected("label_mismatch", f"masks: {type(error).__name__}") from None
