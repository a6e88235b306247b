"""EchoNet-LVH: 12,000 parasternal long-axis videos with wall thicknesses and diameters.

    MeasurementsList.csv   Batch1/*.avi … Batch4/*.avi

The table has a row a measurement: several rows, of several frames, a video. No patient is named:
each video is one. It tells no disease. A row also tells both ends of its measurement in pixels, and
with its length in cm what a pixel is, which the videos do not say. https://echonet.github.io/lvh/
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.datasets.tables import SPLITS, Row, join, read_table
from data_pipelines.labels import Label, Points
from data_pipelines.records import LANDMARKS
from data_pipelines.source import Source

TITLE = "EchoNet-LVH"
EXPECTED = ("MeasurementsList.csv", "Batch*")
PLACES = (".", "EchoNet-LVH")
COLUMNS = ("HashedFileName", "Calc", "CalcValue", "Frame", "X1", "X2", "Y1", "Y2", "Frames", "FPS",
           "Width", "Height", "split")  # fmt: skip
UNUSED = ("",)  # rows are numbered in a column without a name
CALCS = {"IVSd": "ivs_d", "LVIDd": "lvid_d", "LVPWd": "lvpw_d",
         "IVSs": "ivs_s", "LVIDs": "lvid_s", "LVPWs": "lvpw_s"}  # fmt: skip
ENDS = {"ivs": LANDMARKS[:2], "lvid": LANDMARKS[1:3], "lvpw": LANDMARKS[2:]}


def read(root: Path) -> Source:
    """Videos with split, rate, ED and ES frames, measurements in cm, their ends, mm a pixel."""
    table = root / "MeasurementsList.csv"
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_table(table, COLUMNS, ignored=UNUSED):
        rows[row.stem("HashedFileName")].append(row)
    known = {stem: _label(stem, own) for stem, own in rows.items()}
    files, labels = join(
        root, root.glob("Batch*/*.[aA][vV][iI]"), known, table.name,
        lambda stem: root / f"{stem}.avi",
    )  # fmt: skip
    return Source(root, files, labels, precropped=True)


def _label(stem: str, rows: list[Row]) -> Label:
    values: dict[str, list[float]] = defaultdict(list)
    frames: dict[str, set[int]] = {"d": set(), "s": set()}
    for row in rows:
        name = row.choice("Calc", CALCS)
        values[name].append(row.number("CalcValue", 0, 100))
        frames[name[-1]].add(row.whole("Frame"))
    splits = {row.choice("split", SPLITS) for row in rows}
    if len(splits) > 1:
        raise rows[-1].wrong("split", "differs from that of the same video before")
    return Label(
        patient=stem,
        view="PLAX",
        split=splits.pop(),
        fps=rows[0].rate("FPS"),
        end_diastole=tuple(sorted(frames["d"])),
        end_systole=tuple(sorted(frames["s"])),
        # Measured in several beats: their mean.
        measurements=tuple((name, statistics.fmean(found)) for name, found in values.items()),
        points=_points(rows),
        spacing=_spacing(rows),
    )


def _points(rows: Sequence[Row]) -> tuple[Points, ...]:
    """What was measured in each frame; neighbours share an end, whose mean is taken."""
    found: dict[int, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        names = ENDS[row.choice("Calc", CALCS)[:-2]]
        if ends := _ends(row):
            for name, end in zip(names, ends, strict=True):
                found[row.whole("Frame")][name].append(end)
    unknown = [(math.nan, math.nan)]
    return tuple(
        Points(frame, tuple(_middle(ends.get(name, unknown)) for name in LANDMARKS))
        for frame, ends in sorted(found.items())
    )


def _spacing(rows: Sequence[Row]) -> float:
    """Mm a pixel: the median over a video's measurements; 0 where none tells both lengths."""
    told = [
        10 * row.number("CalcValue", 0, 100) / math.dist(*ends)
        for row in rows
        if (ends := _ends(row))
    ]
    known = [value for value in told if value > 0]
    return statistics.median(known) if known else 0.0


def _ends(row: Row) -> list[tuple[float, float]]:
    """Both ends of a measurement, x, y, the one nearer the probe, which is above, first."""
    ends = [(row.number(f"X{i}"), row.number(f"Y{i}")) for i in (1, 2)]
    if ends[0] == ends[1] or any(map(math.isnan, (*ends[0], *ends[1]))):
        return []
    return sorted(ends, key=lambda end: end[1])


def _middle(ends: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return statistics.fmean(x for x, _ in ends), statistics.fmean(y for _, y in ends)
