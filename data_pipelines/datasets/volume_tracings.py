"""`VolumeTracings.csv` of the EchoNet data sets: the left ventricle's outline at ED and ES.

Two layouts are in use. EchoNet-Dynamic: a row is a line (X1, Y1, X2, Y2), the first of a frame
the long axis, the others parallel chords from the one wall to the other. EchoNet-Pediatric: a row
is a point (X, Y) of the outline, and `No Systolic` instead of a frame number says that only the
other frame was traced.
"""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.datasets.tables import read_table
from data_pipelines.labels import Tracing

CHORDS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
POINTS = ("FileName", "X", "Y", "Frame")
ABSENT = {"No Systolic": "systole", "No Diastolic": "diastole"}


class Traced(NamedTuple):
    """What was traced of a video."""

    tracings: tuple[Tracing, ...]
    end_diastole: tuple[int, ...]  # the frame with the largest area, if it can be told
    end_systole: tuple[int, ...]  # … the smallest


def read_tracings(path: Path) -> dict[str, Traced]:
    """{file name without `.avi`: what was traced of it}. Raises InputError as `read_table`."""
    rows: dict[str, dict[int, list]] = defaultdict(lambda: defaultdict(list))
    absent: dict[str, set[str]] = defaultdict(set)
    corners = ()
    for row in read_table(path, CHORDS, POINTS):
        corners = CHORDS[1:5] if "X1" in row.values else POINTS[1:3]
        stem = row.stem("FileName")
        if missing := ABSENT.get(row.values["Frame"].strip()):
            absent[stem].add(missing)
            continue
        rows[stem][row.whole("Frame")].append([row.number(column) for column in corners])
    # Chords count frames from 0. Whether points do, public readers disagree; among thousands of
    # videos frame 0 is traced if it exists.
    points = len(corners) == 2
    first = int(points and not any(0 in frames for frames in rows.values()))
    found = {}
    for stem in rows.keys() | absent.keys():
        outlines = {
            frame - first: np.array(lines) if points else outline(np.array(lines))
            for frame, lines in sorted(rows[stem].items())
        }
        found[stem] = _traced(outlines, absent[stem])
    return found


def outline(lines: np.ndarray) -> np.ndarray:
    """Lines [n, 4] as x1, y1, x2, y2, the long axis first → the polygon's corners [2n - 2, 2]."""
    chords = lines[1:]
    return np.concatenate([chords[:, :2], chords[::-1, 2:]])


def area(polygon: np.ndarray) -> float:
    """The area within corners [n, 2]."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _traced(outlines: dict[int, np.ndarray], absent: set[str]) -> Traced:
    tracings = tuple(
        Tracing(frame, "LV", tuple(map(tuple, polygon.tolist())))
        for frame, polygon in outlines.items()
    )
    by_area = sorted(outlines, key=lambda frame: area(outlines[frame]))
    smallest, largest = tuple(by_area[:1]), tuple(by_area[-1:])
    if len(by_area) < 2:  # which of the two it is, its area alone does not tell
        largest = largest if absent == {"systole"} else ()
        smallest = smallest if absent == {"diastole"} else ()
    return Traced(tracings, largest, smallest)
