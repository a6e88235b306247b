"""The ultrasound sector of a clip: found, fitted with a geometry, and verified.

The result is an allow-list. Whatever lies outside – names, dates, rulers, ECG – is never looked
at, and a clip whose sector cannot be verified is refused.
"""

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines import modes
from data_pipelines.clip import Rejected
from data_pipelines.fan import fan_mask, refine
from data_pipelines.fan_fit import fit_fan

FRAMES, SIDE = 24, 160  # the search looks at so many frames, reduced to so many pixels
STILL, FLICKER = 1.0, 0.6  # grey levels: a still screen's deviation at most, tissue's above it
SCREEN = 0.02  # how much of its brightness a codec makes a still pixel vary
REPEATED = 0.2  # of what frames far apart differ by: neighbours in slow phases differ by more
APPEARS = 60  # grey levels, averaged over 3×3, that graphics rise above what they cover
BLACK = 12  # grey levels that compression leaves of black, after a 3×3 average
SQUARE = np.ones((3, 3), np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sector:
    """Where the image is, in pixels of the frames it was found in."""

    mask: np.ndarray  # [H, W] bool
    apex: tuple[float, float]  # x, y; may lie outside the picture
    angles: tuple[float, float]  # rad from straight down, left < right
    radii: tuple[float, float]  # of the transducer's face and of the deepest arc

    def alike(self, other: "Sector") -> bool:
        """Whether two sectors have the same opening and depth, but for a tenth."""
        sizes = [(s.angles[1] - s.angles[0], s.radii[1] - s.radii[0]) for s in (self, other)]
        return bool(np.allclose(*sizes, rtol=0.1))


def find_sectors(frames: np.ndarray) -> list[Sector]:
    """The sectors of grey frames [T, H, W] uint8, left to right: one, or those of a split screen.

    Raises:
      Rejected: nothing moves like tissue, or what moves is no fan with a still screen around it.
        A picture that moves all over (a cropped clip, a flickering or noisy recording) has no
        edge that could be verified: text may stand anywhere in it.
    """
    height, width = frames.shape[1:]
    scale = min(1.0, SIDE / max(height, width))
    chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES).astype(int))
    small = reduced([frames[i] for i in chosen], scale)
    active = activity(small)
    if np.count_nonzero(active) < 0.03 * active.size:
        raise Rejected("no_sector", "too little of the picture moves")
    if written_once(small, active).mean() > 0.25:
        raise Rejected("m_mode_or_spectral", "a trace that a cursor writes")
    fans = [refine(fan, part) for part, fan in fit_parts(active)]
    if not fans:
        if modes.scrolls(frames):
            raise Rejected("m_mode_or_spectral", "a trace that scrolls")
        raise Rejected("no_sector", "what moves is no fan with a still screen around it")
    inside = np.stack([fan_mask(fan, *active.shape) for fan in fans])
    beside = np.count_nonzero(active & ~inside.any(0))
    if beside > 0.25 * max(map(np.count_nonzero, inside)):
        raise Rejected("m_mode_or_spectral", "a second moving picture beside the sector")
    found = [at_scale(fan, 1 / scale, height, width) for fan in fans]
    return sorted(found, key=lambda sector: np.flatnonzero(sector.mask.any(0)).mean())


def moving(frames: np.ndarray) -> np.ndarray:
    """Numbers of the grey frames [T, H, W] that are not those before them once more.

    A codec changes a little in those, too: what counts is what frames far apart differ by.

    Raises:
      Rejected: something appears while the picture stands still, and is not seen to stay.
    """
    small = np.ascontiguousarray(frames[:, ::4, ::4])
    count = len(small)
    apart = [
        cv2.norm(small[i], small[(i + lag) % count], cv2.NORM_L1)
        for lag in (count // 2, count // 3)
        for i in np.linspace(0, count - 1, 12).astype(int)
    ]
    least = REPEATED * np.median(apart)
    live, steps = [0], []
    for i in range(1, count):
        steps.append(cv2.absdiff(small[live[-1]], small[i]))
        if cv2.norm(steps[-1], cv2.NORM_L1) > least:
            live.append(i)
    stopped = max((_most(steps[i - 1]) for i in {*range(count)} - {*live}), default=0.0)
    if stopped > APPEARS:
        moved = [0.0, *(_most(steps[i - 1]) for i in live[1:])]
        if stopped > np.percentile(moved, 90):
            raise Rejected("no_sector", "something appears while the picture stands still")
    return np.array(live)


def _most(change: np.ndarray) -> float:
    """The most that anything changes, after a 3×3 average."""
    return cv2.minMaxLoc(cv2.blur(change, (3, 3)))[1]


def at_scale(fan: np.ndarray, scale: float, height: int, width: int) -> Sector:
    """A fan of the reduced picture in a picture `scale` times as large, of `height` × `width`."""
    geometry = fan * np.array([scale, scale, 1, 1, scale, scale])
    x, y, left, right, near, far = geometry.tolist()
    return Sector(
        mask=fan_mask(geometry, height, width),
        apex=(x, y),
        angles=(left, right),
        radii=(near, far),
    )


def fit_parts(active: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(pixels, fan) of each moving part that is a fan; parts far smaller than the largest none.

    Two fans that touch are one part: it is tried cut in two where it is lowest.
    """
    labels, sizes = parts_of(active)
    parts = [filled(labels == i) for i in 1 + np.argsort(-sizes[1:])
             if sizes[i] > 0.25 * sizes[1:].max()]  # fmt: skip
    found = [(part, fan) for part in parts if (fan := fit_fan(part)) is not None]
    if found:
        return found
    third = active.shape[1] // 3
    seam = third + int(np.argmin(parts[0][:, third:-third].sum(0)))
    halves = [largest_part(parts[0] & (np.arange(active.shape[1]) < seam)),
              largest_part(parts[0] & (np.arange(active.shape[1]) > seam))]  # fmt: skip
    fans = [fit_fan(half) if half.mean() > 0.03 else None for half in halves]
    return [] if any(fan is None for fan in fans) else list(zip(halves, fans, strict=True))


def cropped_sector(frames: np.ndarray) -> np.ndarray:
    """[H, W] bool: the image in grey frames [T, H, W] around which there is nothing but black.

    For clips whose owner vouches for that: no still screen is asked for, and text would be kept.
    The fan that holds what is ever bright, or, where none does, the bright region itself.

    Raises:
      Rejected: all is black.
    """
    peak = np.max([cv2.blur(frame, (3, 3)) for frame in frames], 0)
    bright = largest_part(cv2.erode((peak > BLACK).view(np.uint8), SQUARE) > 0)  # as blurred
    if bright.mean() < 0.03:
        raise Rejected("no_sector", "the picture is black")
    height, width = bright.shape
    scale = min(1.0, SIDE / max(height, width))
    (small,) = reduced(bright[None].astype(np.float32), scale) > 0.5
    fan = fit_fan(small)
    if fan is None:
        return bright
    return at_scale(refine(fan, small), 1 / scale, height, width).mask


def reduced(frames: Sequence[np.ndarray], scale: float) -> np.ndarray:
    """[T, H, W] → [T, h, w], areas averaged."""
    resize = functools.partial(cv2.resize, dsize=None, fx=scale, fy=scale)
    return np.stack([resize(f, interpolation=cv2.INTER_AREA) for f in frames])


def activity(small: np.ndarray) -> np.ndarray:
    """[T, h, w] uint8 → where anything flickers, [h, w] bool.

    Inside a sector speckle varies even where the image is nearly black; around it the screen is
    still, but for text that compression makes flicker: little for its brightness, and too thin to
    survive opening.
    """
    sums = np.zeros((2, *small.shape[1:]), np.float32)  # of so few frames, exact
    for frame in small:
        cv2.accumulate(frame, sums[0])
        cv2.accumulateSquare(frame, sums[1])
    mean, square = sums.astype(float) / len(small)
    deviation = cv2.blur(np.sqrt(np.maximum(square - mean * mean, 0)), (3, 3))
    still = min(float(np.percentile(deviation, 20)), STILL)
    least = still + FLICKER + SCREEN * cv2.blur(mean, (3, 3))
    found = (deviation > least).view(np.uint8)
    opened = cv2.dilate(cv2.erode(found, SQUARE, iterations=2, borderValue=0), SQUARE, iterations=2)
    # Away from the picture's border: blurring widened what moves by a pixel.
    return cv2.erode(opened, SQUARE) > 0


def largest_part(pixels: np.ndarray) -> np.ndarray:
    """The largest connected part of [H, W] bool, its holes filled; empty if there is none."""
    labels, sizes = parts_of(pixels)
    return filled(labels == 1 + np.argmax(sizes[1:])) if len(sizes) > 1 else pixels


def parts_of(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each pixel's connected part, [H, W], and the parts' sizes; 0 is the rest."""
    # Twice as fast as with cv2's statistics.
    _, labels = cv2.connectedComponents(pixels.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return labels, np.bincount(labels.ravel())


def filled(part: np.ndarray) -> np.ndarray:
    """[H, W] bool without holes."""
    padded = cv2.copyMakeBorder(part.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(padded, None, (0, 0), 2)
    return padded[1:-1, 1:-1] != 2


def written_once(small: np.ndarray, active: np.ndarray) -> np.ndarray:
    """[T, h, w] uint8 → which active pixels change in one step more than in all others, [n] bool.

    A cursor writes the columns of M-mode and spectral Doppler; tissue changes in every frame. A
    step in which all changes, as from one recording to the next, is no cursor's.
    """
    steps = cv2.absdiff(small[1:], small[:-1])
    means = np.array([cv2.sumElems(step)[0] for step in steps]) / steps[0].size
    steps = steps.reshape(len(steps), -1).take(np.flatnonzero(active), 1)
    steps = steps * np.float32(1 / (means + 1e-6))[:, None]  # [T - 1, n]
    return steps.max(0) > 0.5 * steps.sum(0)
