"""EchoNet-LVH: 12,000 parasternal long-axis videos with wall thicknesses and diameters.

    MeasurementsList.csv   Batch1/*.avi … Batch4/*.avi

The table has a row a measurement: several rows, of several frames, a video. No patient is named:
each video is one. It tells no disease. https://echonet.github.io/lvh/
"""

import statistics
from collections import defaultdict
from pathlib import Path

from data_pipelines.datasets.tables import SPLITS, Row, join, read_table
from data_pipelines.labels import Label
from data_pipelines.source import Source

TITLE = "EchoNet-LVH"
EXPECTED = ("MeasurementsList.csv", "Batch*")
PLACES = (".", "EchoNet-LVH")
COLUMNS = ("HashedFileName", "Calc", "CalcValue", "Frame", "X1", "X2", "Y1", "Y2", "Frames", "FPS",
           "Width", "Height", "split")  # fmt: skip
UNUSED = ("",)  # rows are numbered in a column without a name
CALCS = {"IVSd": "ivs_d", "LVIDd": "lvid_d", "LVPWd": "lvpw_d",
         "IVSs": "ivs_s", "LVIDs": "lvid_s", "LVPWs": "lvpw_s"}  # fmt: skip


def read(root: Path) -> Source:
    """Videos with split, rate, ED and ES frames and measurements in cm."""
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
    )
