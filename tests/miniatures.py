"""Small copies of public data sets: pictures with a known ventricle, and what ingestion makes."""

import csv
from pathlib import Path

import cv2
import numpy as np

from data_pipelines import records, shards
from data_pipelines.deidentify import patient_hash
from echofm_jax import cli

SIDE = 112  # pixels of the EchoNet pictures, and of the frames that are stored here


def fan(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A sector that fills its picture, [H, W] bool."""
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    return (np.abs(x - 0.5) < 0.04 + 0.46 * y) & (np.hypot(x - 0.5, y) < 1)


def ellipse(radius: float, height: int = SIDE, width: int = SIDE, points: int = 42) -> np.ndarray:
    """An upright ventricle's outline, [points, 2] x, y; `radius` is its half width in 1/112."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    corners = np.array([0.5, 0.55]) + np.stack(
        [np.sin(angles) * radius / SIDE, -np.cos(angles) * radius * 1.6 / SIDE], 1
    )
    return corners * [width, height] - 0.5


def inside(polygon: np.ndarray, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Pixels whose centres lie in a polygon, [H, W] bool; not by the code under test."""
    y, x = np.mgrid[:height, :width]
    crossings = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        rows = (y0 > y) != (y1 > y)
        crossings ^= rows & (x < (x1 - x0) * (y - y0) / np.where(y1 == y0, np.inf, y1 - y0) + x0)
    return crossings


def video(radii: list[float], seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Bright speckle with a dark ventricle, [T, H, W] uint8."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(150, 180, (len(radii), height, width)).astype(np.uint8)
    for frame, radius in zip(frames, radii, strict=True):
        frame[inside(ellipse(radius, height, width), height, width)] = 30
        frame[~fan(height, width)] = 0
    return frames


def write_avi(path: Path, frames: np.ndarray, fps: float = 50.0) -> None:
    """An MJPEG video as the EchoNet data sets have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = frames.shape[:0:-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, size, isColor=True)
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()


def write_csv(path: Path, header: list[str], rows: list) -> None:
    """A table as spreadsheets write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def chords(name: str, frame: int, polygon: np.ndarray) -> list[list]:
    """Rows of EchoNet-Dynamic's VolumeTracings.csv: the long axis, then parallel chords."""
    half = len(polygon) // 2
    right, left = polygon[1:half], polygon[:half:-1]
    ends = np.concatenate([[np.r_[polygon[0], polygon[half]]], np.hstack([left, right])])
    return [[name, *line, frame] for line in ends.round(3).tolist()]


def ingest(name: str, source: Path, data_dir: Path, *more: str) -> int:
    """`echofm ingest --dataset NAME`, as its users run it."""
    return cli.main(
        ["ingest", f"--dataset={name}", f"--source={source}", f"--data_dir={data_dir}",
         f"--salt_file={data_dir.parent / 'salt'}", f"--size={SIDE}", "--workers=1",
         "--encoding=zstd", *more]
    )  # fmt: skip


def refusal(capsys, name: str, source: Path) -> str:
    """The one line with which a data set is refused; no data set and no report are made."""
    data_dir = source.parent / "refused"
    assert ingest(name, source, data_dir) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("echofm ingest: ") and not data_dir.exists()
    assert not Path(f"{data_dir}-report.csv").exists()
    return line


def report(data_dir: Path) -> dict[str, dict]:
    """{file: its line}."""
    with Path(f"{data_dir}-report.csv").open() as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def example(data_dir: Path, file: str) -> dict:
    """The first record of a file that was accepted, and its split."""
    line = report(data_dir)[file]
    assert line["status"] == "accepted", line
    (found,) = (
        e
        for e in shards.open_split(data_dir, line["split"])
        if e["clip_id"].decode() == line["clip_id"] and e["segment"] == 0
    )
    return found | {"split": line["split"]}


def is_patient(data_dir: Path, record: dict, patient: str) -> bool:
    """Whether a record's patient is the hash of this key."""
    salt = (data_dir.parent / "salt").read_bytes()
    return record["patient_id"].decode() == patient_hash(salt, patient)


def picture(record: dict, frame: int) -> np.ndarray:
    """A stored frame, [SIDE, SIDE] uint8."""
    out = np.empty((SIDE, SIDE), np.uint8)
    records.decode_frame(record["frames"][frame], "zstd", out)
    return out


def mask_and_shown(record: dict, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A stored mask's ventricle, and the dark pixels that its frame shows, [SIDE, SIDE] bool."""
    mask = records.decode_mask(record["masks"][number], SIDE) == records.STRUCTURES.index("LV")
    sector = records.unpack_sector(record["sector"], SIDE).astype(np.uint8)
    shown = picture(record, record["mask_frames"][number])
    return mask, (shown < 95) & (cv2.erode(sector, np.ones((9, 9))) > 0)  # its edge is dark too


def overlap(record: dict, number: int) -> float:
    """Intersection over union of a stored mask and what its frame shows."""
    mask, dark = mask_and_shown(record, number)
    return float((mask & dark).sum() / (mask | dark).sum())


def offset(record: dict, number: int) -> float:
    """Pixels between the middle of a stored mask and of what its frame shows."""
    mask, dark = mask_and_shown(record, number)
    return float(np.hypot(*(np.argwhere(mask).mean(0) - np.argwhere(dark).mean(0))))


def measurement(record: dict, name: str) -> float:
    """A value of records.MEASUREMENTS; NaN where it is unknown."""
    return float(record["measurements"][records.MEASUREMENTS.index(name)])


def everything_said(data_dir: Path, capfd) -> bytes:
    """All bytes that leave ingestion but for the report: shards, their records, messages."""
    stored = [path.read_bytes() for path in data_dir.rglob("*") if path.is_file()]
    for split in shards.dataset_info(data_dir).records:
        stored += [shards.serialize(e) for e in shards.open_split(data_dir, split)]
    return b"".join(stored) + "".join(capfd.readouterr()).encode()
