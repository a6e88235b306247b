"""Small copies of EchoNet-LVH: a fan with two bright walls and a dark cavity between them."""

from pathlib import Path

import miniatures as mini
import numpy as np

HEADER = ["", "HashedFileName", "Calc", "CalcValue", "Frame", "X1", "X2", "Y1", "Y2", "Frames",
          "FPS", "Width", "Height", "split"]  # fmt: skip
HEIGHT, WIDTH, COUNT = 72, 90, 12
MM = 0.9  # a pixel
DIASTOLE, SYSTOLE = (2, 10), 6


def places(number: int, frame: int) -> np.ndarray:
    """Landmarks [4, 2] x, y of a video: the cavity is widest at both DIASTOLE, walls thicken."""
    rng = np.random.default_rng(number)
    wall = 8.0 + 7.0 * (number % 2) + rng.uniform(-1, 1)  # pixels: 7 or 13 mm
    contraction = 1 - abs(frame - SYSTOLE) / 4 if 2 <= frame <= 10 else 0.0
    cavity = rng.uniform(20, 24) * (1 - 0.4 * contraction)
    top = 14 + rng.uniform(-2, 2) + 1.5 * np.sin(2.0 * frame)  # what is still is cut away
    y = top + np.cumsum([0, wall, cavity, wall])
    return np.stack([np.full(4, 45 + 0.5 * contraction), y], 1)


def frames(number: int) -> np.ndarray:
    """[COUNT, HEIGHT, WIDTH] uint8."""
    rng = np.random.default_rng(100 + number)
    found = rng.integers(10, 80, (COUNT, HEIGHT, WIDTH))
    y = np.arange(HEIGHT)[:, None]
    for frame, picture in enumerate(found):
        a, b, c, d = places(number, frame)[:, 1]
        picture += 130 * ((y >= a) & (y < b) | (y >= c) & (y < d))
    return (found * mini.fan(HEIGHT, WIDTH)).astype(np.uint8)


def rows(number: int, name: str, split: str) -> list[list]:
    """Its measurements: two beats at end-diastole, one at end-systole, ends in any order."""
    made = []
    for frame, phase in ((DIASTOLE[0], "d"), (DIASTOLE[1], "d"), (SYSTOLE, "s")):
        ends = places(number, frame)
        for k, calc in enumerate(("IVS", "LVID", "LVPW")):
            (x1, y1), (x2, y2) = ends[k : k + 2] if k % 2 else ends[k : k + 2][::-1]
            cm = abs(y2 - y1) * MM / 10
            where = [f"{side:.3f}" for side in (x1, x2, y1, y2)]
            about = [COUNT, 40, WIDTH, HEIGHT, split]
            made.append([number, name, f"{calc}{phase}", f"{cm:.4f}", frame, *where, *about])
    return made


def write(root: Path, count: int = 16) -> Path:
    """A data set of so many videos, half of them with thick walls."""
    table = []
    for number in range(count):
        name = f"0XSECRET{number:02d}"
        mini.write_avi(root / f"Batch{number % 4 + 1}" / f"{name}.avi", frames(number), fps=30)
        table += rows(number, name, ("train", "train", "val", "test")[number // 2 % 4])
    mini.write_csv(root / "MeasurementsList.csv", HEADER, table)
    return root
