"""Outlines and label maps of a data set → label maps in the pixels of a clip's frames."""

from pathlib import Path

import cv2
import numpy as np

from data_pipelines.clip import Rejected
from data_pipelines.labels import Label, Tracing
from data_pipelines.records import STRUCTURES

FINE = 8  # outlines are drawn so many times larger: a pixel belongs to it if its centre does
BORDER = 1.0  # pixels that an outline may reach over the picture's edge


def label_maps(label: Label, shape: tuple[int, int], folder: Path) -> dict[int, np.ndarray]:
    """{frame number: [H, W] uint8 values of records.STRUCTURES} of a clip with [H, W] frames.

    `folder`: the clip's own, in which its files of maps lie.

    Raises:
        Rejected: `label_mismatch`: an outline outside the picture, a map of another size, a
            structure that nobody knows, or a file of maps that cannot be read.
    """
    maps: dict[int, np.ndarray] = {}
    for tracing in label.tracings:
        filled = _fill(tracing, shape)
        target = maps.setdefault(tracing.frame, np.zeros(shape, np.uint8))
        target[filled] = STRUCTURES.index(tracing.structure)
    for name, first in label.mask_files:
        from data_pipelines import stills, volumes

        png = name.lower().endswith(".png")
        read = stills.read_label_map if png else volumes.read_label_maps
        for frame, found in enumerate(read(folder / name), first):
            if found.shape != shape:
                raise Rejected("label_mismatch", "a mask has another size than the frames")
            maps[frame] = found
    return maps


def _fill(tracing: Tracing, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie inside an outline, [H, W] bool."""
    points = np.asarray(tracing.points, np.float64)  # [n, 2] x, y; pixel centres are integers
    if len(points) < 3 or not np.isfinite(points).all():
        raise Rejected("label_mismatch", "a tracing that is no outline")
    limits = np.array(shape[::-1]) - 0.5 + BORDER
    if np.any(points < -0.5 - BORDER) or np.any(points > limits):
        raise Rejected("label_mismatch", "a tracing outside the image")
    fine = np.zeros((shape[0] * FINE, shape[1] * FINE), np.uint8)
    corners = np.rint((points * FINE + FINE // 2) * 16).astype(np.int32)
    cv2.fillPoly(fine, [corners], 1, shift=4)  # in sixteenths
    return fine[FINE // 2 :: FINE, FINE // 2 :: FINE].astype(bool)
