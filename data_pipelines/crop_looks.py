"""How crops look: gain, gamma, blur and speckle, each crop its own; black stays black.

What another machine, another gain or another setting would change, so that the two views of an
image agree in the heart and not in its picture.
"""

from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines.crops import Crops

KERNEL = 9  # pixels a side of the blur, as DINOv2's


class Looks(NamedTuple):
    """What is done to each of an image's n crops, global ones first."""

    tables: np.ndarray  # [n, 256] uint8: grey level → grey level
    blurs: np.ndarray  # [n] standard deviations in pixels, 0 = none
    speckled: np.ndarray  # [n] bool


def draw_looks(crops: Crops, rng: np.random.Generator) -> Looks:
    """Draw them; gain and gamma of `augment.Augment`'s kind."""
    n = 2 + crops.local_crops
    kind = np.minimum(np.arange(n), 2)  # first global, second, local
    levels, blurred, speckled = rng.random((3, n))
    gain, gamma, blur = rng.random((3, n, 1))
    power = (1 + crops.gamma) ** (2 * gamma - 1)
    factor = 1 + crops.gain * (2 * gain - 1)
    changed = (levels < crops.levels_chance)[:, None]
    power, factor = np.where(changed, power, 1), np.where(changed, factor, 1)
    tables = np.clip(255 * factor * np.linspace(0, 1, 256) ** power + 0.5, 0, 255)  # 0 stays 0
    blurs = np.where(blurred < np.take(crops.blur_chance, kind), crops.blur * blur[:, 0], 0)
    noisy = speckled < np.take(crops.speckle_chance, kind)
    return Looks(tables.astype(np.uint8), blurs, noisy & (crops.speckle > 0))


def change(crop: np.ndarray, looks: Looks, i: int, crops: Crops, rng: np.random.Generator) -> None:
    """Give a crop [s, s(, 3)] uint8, contiguous, the look number i, in place."""
    cv2.LUT(crop, looks.tables[i], dst=crop)
    if looks.blurs[i]:
        # A fourth of `cv2.GaussianBlur`'s time, and not a grey level from it but in rounding.
        line = cv2.getGaussianKernel(KERNEL, looks.blurs[i], cv2.CV_32F)
        cv2.sepFilter2D(crop, -1, line, line, dst=crop)
    if looks.speckled[i]:
        factor = 1 + crops.speckle * rng.standard_normal(crop.shape[:2], np.float32)
        if crop.ndim == 3:
            factor = cv2.merge([factor] * 3)  # a pixel's colours alike
        cv2.multiply(crop, factor, dst=crop, dtype=cv2.CV_8U)
