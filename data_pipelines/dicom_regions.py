"""Regions of the screen that an ultrasound header describes (DICOM PS3.3 C.8.5.5)."""

import math

import pydicom

from data_pipelines.arrays import MIN_SIDE
from data_pipelines.clip import Region

KINDS = {1: "2d", 2: "m_mode", 3: "spectral", 4: "wave_form", 5: "graphics"}  # RegionSpatialFormat
COLOUR_FLOW = 2  # RegionDataType
CENTIMETRE = 3  # PhysicalUnits
INSIDE = 0.98  # share of a region that must lie in the picture: a row too many is common
DEPTHS = (5.0, 400.0)  # mm that a 2D region can be high


def read_regions(header: pydicom.Dataset) -> tuple[Region, ...]:
    """The regions that lie in the picture.

    A picture that was scaled or cropped later keeps its old regions: they point elsewhere, and
    their millimetres are those of other pixels. They are left out, as are those without values.
    """
    regions = []
    for item in header.get("SequenceOfUltrasoundRegions") or ():
        try:
            region = _read(item, int(header.Rows), int(header.Columns))
        except (AttributeError, OverflowError, TypeError, ValueError):
            continue
        if region:
            regions.append(region)
    return tuple(regions)


def _read(item: pydicom.Dataset, height: int, width: int) -> Region | None:
    top, bottom = int(item.RegionLocationMinY0), int(item.RegionLocationMaxY1) + 1
    left, right = int(item.RegionLocationMinX0), int(item.RegionLocationMaxX1) + 1
    box = (slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width)))
    if min(side.stop - side.start for side in box) < MIN_SIDE:
        return None
    kind = KINDS.get(int(item.get("RegionSpatialFormat") or 0), "")
    region = Region(
        box=box,
        kind=kind,
        flow=int(item.get("RegionDataType") or 0) == COLOUR_FLOW,
        spacing=_spacing(item, bottom - top) if kind == "2d" else (math.nan, math.nan),
    )
    return region if region.pixels >= INSIDE * (bottom - top) * (right - left) else None


def _spacing(item: pydicom.Dataset, rows: int) -> tuple[float, float]:
    """Mm a pixel, rows and columns; NaN where units, signs or sizes make no sense."""
    units = item.get("PhysicalUnitsYDirection"), item.get("PhysicalUnitsXDirection")
    deltas = item.get("PhysicalDeltaY"), item.get("PhysicalDeltaX")
    unknown = math.nan, math.nan
    if units != (CENTIMETRE, CENTIMETRE) or None in deltas:
        return unknown
    down, across = (10 * abs(float(delta)) for delta in deltas)  # X is negative in mirrored images
    if not DEPTHS[0] <= down * rows <= DEPTHS[1] or not 0.5 <= across / down <= 2:
        return unknown
    return down, across


def spacing(regions: tuple[Region, ...]) -> tuple[float, float]:
    """Mm a pixel (rows, columns) of the largest 2D region that tells; else NaN."""
    known = [region for region in regions if math.isfinite(region.spacing[0])]
    return max(known, key=lambda r: r.pixels).spacing if known else (math.nan, math.nan)
