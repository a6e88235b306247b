"""A clip as it was recorded → what may be stored: the inside of its sector, square, grey."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines.clip import Clip, Rejected
from data_pipelines.graphics import FEWEST, cut_graphics
from data_pipelines.modes import coloured
from data_pipelines.sector import Sector, cropped_sector, find_sectors, moving

# Of the side: where less is lost, pixels are interpolated, six times as fast. From averaged areas
# that differs by 49 to 59 dB in real clips, where quality 95 of JPEG leaves 46 to 51.
HARDLY = 0.75
AROUND = 2  # pixels from a coloured one that its colour may have come from: chroma is stored halved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cleaned:
    """Frames of one size, black outside the sector."""

    frames: np.ndarray  # [T, size, size] uint8, or [T, size, size, 3] if colour was asked for
    sector: np.ndarray  # [size, size] bool
    mode: str  # one of records.MODES
    box: tuple[slice, slice]  # of the recorded frames: rows and columns that were kept
    ecg_removed: bool  # a trace was drawn into the sector: its rows are no longer part of it
    cut: float  # share of the sector that a trace and still marks took with them

    def place(self, mask: np.ndarray) -> np.ndarray:
        """A label map of a recorded frame, [H, W] uint8 → where the stored frame shows it."""
        return fit_square(mask[self.box], len(self.sector), cv2.INTER_NEAREST_EXACT)

    def place_points(self, points: np.ndarray) -> np.ndarray:
        """X, y in a recorded frame, [..., 2], pixel centres are integers → in the stored one."""
        shape = [s.stop - s.start for s in self.box]
        new, (top, left) = fitted(shape, len(self.sector))
        first = np.array([s.start for s in self.box[::-1]])  # x, y
        scale = np.divide(new, shape)[::-1]
        return (points - first + 0.5) * scale - 0.5 + (left, top)

    def spacing(self, recorded: tuple[float, float]) -> np.ndarray:
        """Mm a pixel (rows, columns) as recorded → as stored, [2] float32."""
        height, width = (s.stop - s.start for s in self.box)
        return np.float32(np.multiply(recorded, max(height, width) / len(self.sector)))


def clean(clip: Clip, *, size: int, colour: bool, precropped: bool = False) -> Cleaned:
    """Find the sector, cut out what is drawn into it, blank the rest, crop, square, resize once.

    `precropped`: the owner vouches that nothing but the image is in the picture.

    Raises:
      Rejected: no sector could be verified, two sectors show different things, the clip is a
        trace, or too short or still or overwritten to tell what is drawn into it.
    """
    cv2.setNumThreads(1)
    grey = to_grey(clip.frames)
    if precropped:
        whole, mode = cropped_sector(grey), clip.mode
        try:
            mask, ecg_removed = cut_graphics(shown(clip, whole), whole)
        except Rejected:
            mask, ecg_removed = whole, False
    else:
        live = moving(grey)
        if len(live) < FEWEST:
            raise Rejected("no_sector", f"fewer than {FEWEST} frames that differ")
        whole, mode = one_sector(
            find_sectors(grey if len(live) == len(grey) else grey[live]), clip, colour
        )
        frames = shown(clip, whole)
        mask, ecg_removed = cut_graphics([frames[i] for i in live], whole)
        mask = within_region(mask, clip.region)
    mode = mode or ("colour_doppler" if coloured(clip.frames, mask) else "b_mode")
    source = clip.frames if colour else grey
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = mask[box]
    # The mask made smaller as frames are: a pixel is kept if all that it is made of lies inside.
    sector = fit_square(inside.astype(np.float32), size) > 0.99
    frames = np.zeros((len(source), size, size, *source.shape[3:]), np.uint8)
    channel = (1,) * (source.ndim - 3)
    inner, kept = (255 * m.astype(np.uint8).reshape(*m.shape, *channel) for m in (inside, sector))
    masked = np.empty_like(source[0][box])
    for frame, square in zip(source, frames, strict=True):
        fit_square(np.bitwise_and(frame[box], inner, out=masked), size, square=square)
    frames &= kept
    if colour and frames.ndim == 3:
        frames = np.repeat(frames[..., None], 3, -1)  # [T, size, size, 3]
    return Cleaned(
        frames=frames,
        sector=sector,
        mode=mode,
        box=box,
        ecg_removed=ecg_removed,
        cut=1 - np.count_nonzero(mask) / np.count_nonzero(whole),
    )


def one_sector(sectors: list[Sector], clip: Clip, colour: bool) -> tuple[np.ndarray, str]:
    """The sector to keep, [H, W] bool, and its mode, empty if unknown.

    Of a split screen that shows the same plane with and without flow, the plain image, or the
    other one if `colour` is asked for; anything else beside a second image (two planes, a
    comparison) would be two clips in one record.
    """
    if len(sectors) == 1:
        return sectors[0].mask, clip.mode
    frames = shown(clip, np.logical_or.reduce([sector.mask for sector in sectors]))
    flow = [coloured(frames, sector.mask) for sector in sectors]
    if sorted(flow) != [False, True] or not sectors[0].alike(sectors[1]):
        raise Rejected("split_screen", f"{len(sectors)} images in one picture")
    kept = flow.index(colour)
    mode = "colour_doppler" if colour else "b_mode"
    return sectors[kept].mask & ~sectors[1 - kept].mask, mode


def shown(clip: Clip, sector: np.ndarray) -> np.ndarray:
    """A clip's frames, in colour if anything in the sector, [H, W] bool, is."""
    if clip.coloured is None:
        return clip.frames
    reached = np.ones((2 * AROUND + 1, 2 * AROUND + 1), np.uint8)
    drawn = cv2.dilate(clip.coloured.view(np.uint8), reached) > 0
    return clip.in_colour() if (drawn & sector).any() else clip.frames


def within_region(mask: np.ndarray, region: tuple[slice, slice] | None) -> np.ndarray:
    """The part of a sector, [H, W] bool, that lies in the header's 2D region.

    A region that misses more than a margin of it is that of another picture.
    """
    if region is None or mask[region].sum() < 0.9 * mask.sum():
        return mask
    result = np.zeros_like(mask)
    result[region] = mask[region]
    return result


def to_grey(frames: np.ndarray) -> np.ndarray:
    """[T, H, W(, 3)] → [T, H, W], luma as in ITU-R BT.601."""
    if frames.ndim == 3:
        return frames
    grey = np.empty(frames.shape[:3], np.uint8)
    for frame, luma in zip(frames, grey, strict=True):
        cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY, dst=luma)
    return grey


def fit_square(
    image: np.ndarray, size: int, method: int | None = None, square: np.ndarray | None = None
) -> np.ndarray:
    """[h, w(, 3)] → [size, size(, 3)]: aspect kept, centred, black around.

    `method` is one of OpenCV's; by default areas are averaged, or pixels interpolated where they
    become no fewer, or hardly. With `square`, which is black, it is written there.
    """
    scale = size / max(image.shape[:2])
    new, (top, left) = fitted(image.shape[:2], size)
    if method is None:
        method = cv2.INTER_AREA if scale < HARDLY else cv2.INTER_LINEAR
    if square is None:
        square = np.zeros((size, size, *image.shape[2:]), image.dtype)
    cv2.resize(
        image, new[::-1], dst=square[top : top + new[0], left : left + new[1]], interpolation=method
    )
    return square


def fitted(shape: Sequence[int], size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of a picture of `shape` in a square of side `size`; the black above, left.

    Height and width are (h, w), the black (rows, columns).
    """
    scale = size / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    return (height, width), ((size - height) // 2, (size - width) // 2)
