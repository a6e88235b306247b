"""Crops of frames for DINOv2 pre-training: which there are, and how they are drawn and cut.

Nothing is turned over: up and down, and left and right, are anatomy in an echo, and the chamber on
the left is another one than that on the right. Colours keep their hue, which is a velocity.
"""

import dataclasses
import math

import cv2
import numpy as np

TRIES = 16  # rectangles drawn for each crop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crops:
    """Two global crops and some local ones of each image. The looks are 0 where left out.

    The defaults are DINOv2's (Oquab et al., 2023) where ultrasound has what photographs have:
    gain and gamma stand for brightness and contrast, speckle for solarisation.
    """

    global_size: int = 224  # pixels
    local_size: int = 98  # 96 where the patch is 16
    local_crops: int = 8
    patch: int = 14
    global_scale: tuple[float, float] = (0.32, 1.0)  # of the area of the sector's bounding box
    local_scale: tuple[float, float] = (0.05, 0.32)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width to height
    inside: float = 0.5  # share of each crop that lies inside the sector, at least
    other_frame: bool = False  # the second global crop and half the local ones: of another moment
    mask_ratio: tuple[float, float] = (0.1, 0.5)  # of the patches of one of the two global crops
    gain: float = 0.4  # 0.4: grey levels times 0.6 to 1.4
    gamma: float = 0.4  # 0.4: grey levels to the power of 1/1.4 to 1.4, black and white kept
    levels_chance: float = 0.8  # of a crop to have its gain and gamma changed
    blur: float = 2.0  # Gaussian, its standard deviation at most, in pixels of the crop
    speckle: float = 0.2  # standard deviation of the noise that multiplies each pixel
    # Of the first global crop, the second, and each local one.
    blur_chance: tuple[float, float, float] = (1.0, 0.1, 0.5)
    speckle_chance: tuple[float, float, float] = (0.0, 0.2, 0.0)

    @property
    def grid(self) -> int:
        """Patches along a side of a global crop."""
        return self.global_size // self.patch

    def problems(self) -> list[str]:
        """What is wrong with the values, naming them."""
        at_least = {"global_size": 1, "local_size": 1, "local_crops": 0, "patch": 1}
        problems = [
            f"crops.{name}={getattr(self, name)} must be at least {least}"
            for name, least in at_least.items()
            if getattr(self, name) < least
        ]
        for name in ("global_size", "local_size"):
            size = getattr(self, name)
            if self.patch > 0 and size % self.patch:
                near = max(1, round(size / self.patch)) * self.patch
                problems.append(
                    f"crops.{name}={size} is not divisible by crops.patch={self.patch}: "
                    f"choose {near}"
                )
        ranges = ("global_scale", "local_scale", "ratio", "mask_ratio")
        if wrong := [name for name in ranges if np.shape(getattr(self, name)) != (2,)]:
            told = [f"crops.{name}={getattr(self, name)}: give two numbers" for name in wrong]
            return problems + told
        for name in ("global_scale", "local_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                problems.append(f"crops.{name}={(low, high)} is no range in (0, 1]")
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            problems.append(f"crops.ratio={tuple(self.ratio)} is no range above 0")
        if not 0 <= self.mask_ratio[0] <= self.mask_ratio[1] < 1:
            problems.append(f"crops.mask_ratio={tuple(self.mask_ratio)} is no range in [0, 1)")
        limits = {"inside": 1, "gain": 1, "gamma": 4, "blur": 16, "speckle": 1}
        problems += [
            f"crops.{name}={getattr(self, name)} is not in [0, {limit})"
            for name, limit in limits.items()
            if not 0 <= getattr(self, name) < limit
        ]
        for name in ("levels_chance", "blur_chance", "speckle_chance"):
            chances = np.ravel(getattr(self, name))
            if not ((chances >= 0) & (chances <= 1)).all():
                problems.append(f"crops.{name}={getattr(self, name)} is not in [0, 1]")
        return problems


def draw_rectangles(inside: np.ndarray, crops: Crops, rng: np.random.Generator) -> np.ndarray:
    """Rectangles of an image's global and then local crops, [2 + local_crops, 4] int: x, y, w, h.

    Each is the first of 16 within the sector's bounding box of which the share `crops.inside` lies
    in the sector; if none does, the first at the box's centre.

    Args:
      inside: [S, S] uint8, 1 inside the sector.
      crops: areas and ratios.
      rng: draws.
    """
    left, top, *box = cv2.boundingRect(inside)
    sums = cv2.integral(inside)  # [S + 1, S + 1]: of all pixels above and to the left
    scales = np.array([crops.global_scale] * 2 + [crops.local_scale] * crops.local_crops)
    low, high = scales.T[:, :, None]  # [n, 1]
    drawn = rng.random((4, len(scales), TRIES))
    area = box[0] * box[1] * (low + (high - low) * drawn[0])
    ratio = crops.ratio[0] * (crops.ratio[1] / crops.ratio[0]) ** drawn[1]
    sizes = [np.sqrt(area * ratio), np.sqrt(area / ratio)]
    w, h = (np.maximum(np.rint(size), 1).astype(int) for size in sizes)  # [n, TRIES]
    good = (w <= box[0]) & (h <= box[1])
    w, h = np.minimum(w, box[0]), np.minimum(h, box[1])
    x = left + (drawn[2] * (box[0] - w + 1)).astype(int)
    y = top + (drawn[3] * (box[1] - h + 1)).astype(int)
    held = sums[y + h, x + w] - sums[y, x + w] - sums[y + h, x] + sums[y, x]
    good &= held >= crops.inside * w * h
    first = good.argmax(1)[:, None]
    x, y, w, h = (np.take_along_axis(values, first, 1)[:, 0] for values in (x, y, w, h))
    some = good.any(1)
    x, y = np.where(some, x, left + (box[0] - w) // 2), np.where(some, y, top + (box[1] - h) // 2)
    return np.stack([x, y, w, h], 1)


def cut(image: np.ndarray, rectangle: np.ndarray, out: np.ndarray) -> None:
    """Write a rectangle of an image [S, S(, 3)] into `out` [s, s(, 3)]: areas averaged, or linear.

    One smaller than `out` is enlarged.
    """
    x, y, w, h = rectangle.tolist()
    method = cv2.INTER_AREA if w * h > out.shape[0] ** 2 else cv2.INTER_LINEAR
    cv2.resize(image[y : y + h, x : x + w], out.shape[:2], dst=out, interpolation=method)
