"""A clip as a reader hands it over, and the reasons why a file is not one."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

MAX_FRAMES_READ = 4096  # longer files are rejected before they are decoded
REASONS = (
    "duplicate",  # the pixels of another file
    "missing",  # a data set lists it, and it is not there
    "unreadable",  # no reader understands it, or it breaks off
    "truncated",  # it announces more than it holds
    "empty",  # zero bytes, zero length
    "not_video",  # understood, but not a sequence of images
    "single_frame",
    "too_long",
    "m_mode_or_spectral",  # a trace instead of an image of the heart
    "no_sector",  # no ultrasound sector that could be verified
    "split_screen",  # two images that are not one and the same
    "changed",  # another file lay there before
    "label_mismatch",  # what its labels say does not fit it, or they say nothing of it
    "failed",  # our fault: the report says in which module
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the screen as the header describes it (DICOM PS3.3 C.8.5.5)."""

    box: tuple[slice, slice]  # rows and columns of the frames; inside the picture
    kind: str  # 2d, m_mode, spectral, wave_form, graphics, or empty
    flow: bool = False  # colour flow is shown
    spacing: tuple[float, float] = (math.nan, math.nan)  # mm a pixel, rows and columns

    @property
    def pixels(self) -> int:
        """Its area."""
        return math.prod(side.stop - side.start for side in self.box)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """Decoded frames with their timing; still holds identities, never leaves ingestion."""

    frames: np.ndarray  # uint8, [T, H, W] grey or [T, H, W, 3] RGB
    times: np.ndarray | None  # [T] seconds from the first frame; None = unknown
    fps_source: str  # one of records.FPS_SOURCES
    patient: str = ""  # as the header has it; empty = unknown
    mode: str = ""  # what the header says: one of records.MODES, or empty
    regions: tuple[Region, ...] = ()  # two of kind 2d: a dual screen, or two planes
    spacing: tuple[float, float] = (math.nan, math.nan)  # mm a pixel, rows and columns
    heart_rate: float = math.nan  # beats a minute
    r_waves: tuple[float, ...] = ()  # seconds from the first frame
    # Where grey frames are of a file in colour: [H, W] bool, which pixels are coloured, and what
    # reads them, [T, H, W, 3].
    coloured: np.ndarray | None = None
    in_colour: Callable[[], np.ndarray] | None = None
    note: str = ""  # where the header contradicts itself; fixed words and numbers

    @property
    def region(self) -> tuple[slice, slice] | None:
        """Box of the only 2D region, rows and columns; None = the header knows of none or more."""
        flat = [region for region in self.regions if region.kind == "2d"]
        return flat[0].box if len(flat) == 1 else None

    @property
    def fps(self) -> float:
        """Mean frames a second, 0 = unknown."""
        if self.times is None or len(self.times) < 2 or self.times[-1] <= 0:
            return 0.0
        return float((len(self.times) - 1) / self.times[-1])


class Rejected(Exception):
    """The file is no clip that can be used: a reason from REASONS and a detail without names."""

    def __init__(self, reason: str, detail: str = ""):
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail
