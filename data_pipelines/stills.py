"""Single pictures (PNG) of data sets that hold stills: clips of one frame."""

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
