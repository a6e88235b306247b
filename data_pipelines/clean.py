"""A clip as it was recorded → what may be stored: the inside of its sector, square, grey."""

import dataclasses

import cv2
import numpy as np
from scipy import ndimage

from data_pipelines.clip import Clip, Rejected
from data_pipelines.modes import coloured
from data_pipelines.sector import find_sector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cleaned:
    """Frames of one size, black outside the sector."""

    frames: np.ndarray  # [T, size, size] uint8, or [T, size, size, 3] if colour was asked for
    sector: np.ndarray  # [size, size] bool
    mode: str  # one of records.MODES
    box: tuple[slice, slice]  # of the recorded frames: rows and columns that were kept

    def place(self, mask: np.ndarray) -> np.ndarray:
        """A label map of a recorded frame, [H, W] uint8 → where the stored frame shows it."""
        return fit_square(mask[self.box], len(self.sector), cv2.INTER_NEAREST_EXACT)

    def spacing(self, recorded: tuple[float, float]) -> np.ndarray:
        """Mm a pixel (rows, columns) as recorded → as stored, [2] float32."""
        height, width = (s.stop - s.start for s in self.box)
        return np.float32(np.multiply(recorded, max(height, width) / len(self.sector)))


def clean(clip: Clip, *, size: int, colour: bool, precropped: bool = False) -> Cleaned:
    """Find the sector, blank everything else, crop, pad to a square, resize once.

    Raises:
      Rejected: no sector could be verified, or the clip is a trace.
    """
    cv2.setNumThreads(1)
    grey = to_grey(clip.frames)
    mask = bright(grey) if precropped else find_sector(grey).mask
    mode = clip.mode or ("colour_doppler" if coloured(clip.frames, mask) else "b_mode")
    source = clip.frames if colour else grey
    if colour and source.ndim == 3:
        source = np.repeat(source[..., None], 3, -1)  # [T, H, W, 3]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = mask[box]
    # Area averages of the mask: a pixel is kept if all that it is made of lies inside.
    sector = fit_square(inside.astype(np.float32), size) > 0.99
    frames = np.zeros((len(source), size, size, *source.shape[3:]), np.uint8)
    outside, beyond = ~inside, ~sector
    for i, frame in enumerate(source):
        cut = frame[box].copy()
        cut[outside] = 0
        frames[i] = fit_square(cut, size)
        frames[i][beyond] = 0
    return Cleaned(frames=frames, sector=sector, mode=mode, box=box)


def bright(frames: np.ndarray) -> np.ndarray:
    """The sector of pictures [T, H, W] that hold nothing else, [H, W] bool."""
    parts, count = ndimage.label(frames.max(0) > 8)
    if not count:
        raise Rejected("no_sector", "nothing but black")
    largest = 1 + np.argmax(ndimage.sum_labels(parts > 0, parts, range(1, count + 1)))
    return ndimage.binary_fill_holes(parts == largest)


def to_grey(frames: np.ndarray) -> np.ndarray:
    """[T, H, W(, 3)] → [T, H, W], luma as in ITU-R BT.601."""
    if frames.ndim == 3:
        return frames
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])


def fit_square(image: np.ndarray, size: int, method: int | None = None) -> np.ndarray:
    """[h, w(, 3)] → [size, size(, 3)]: aspect kept, centred, black around.

    `method` is one of OpenCV's; by default areas are averaged, or pixels interpolated.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    new = max(1, round(height * scale)), max(1, round(width * scale))
    if method is None:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.zeros((size, size, *image.shape[2:]), image.dtype)
    top, left = (size - new[0]) // 2, (size - new[1]) // 2
    square[top : top + new[0], left : left + new[1]] = cv2.resize(
        image, new[::-1], interpolation=method
    )
    return square
