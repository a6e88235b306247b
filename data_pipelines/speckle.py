"""Simulated speckle for benchmarks: as many bytes, and as long to decode, as sector scans."""

import cv2
import numpy as np

from data_pipelines import records, shards

FRAMES = 60  # of a clip


def write_speckle(data_dir: str, clips: int = 64, encoding: str = "jpeg") -> None:
    """Write a data set of simulated speckle in a sector, 30 frames/s, 224 × 224.

    Its frames take about as many bytes, and as long to decode, as real sector scans.
    """
    y, x = np.mgrid[:224, -112:112]
    sector = (np.abs(np.arctan2(x, y)) < 0.7) & (np.hypot(x, y) < 224)
    rng = np.random.default_rng(0)
    examples = (speckle_example(sector, rng, encoding) for _ in range(clips))
    shards.write_dataset(data_dir, {"train": examples}, size=224, encoding=encoding, simulated=True)


def speckle_example(sector: np.ndarray, rng: np.random.Generator, encoding: str) -> dict:
    """A record of log-compressed Rayleigh speckle, moving by a pixel a frame, over tissue."""
    size = len(sector)
    field = cv2.GaussianBlur(rng.normal(size=(FRAMES + size, size, 2)), (0, 0), 3)
    echo = np.hypot(field[..., 0], field[..., 1])
    echo = 25 * np.log(echo / echo.mean() + 0.01)
    tissue = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), size / 16)
    tissue = 80 + 50 * tissue / tissue.std()
    frames = [
        np.clip(echo[i : i + size] + tissue, 0, 255).astype(np.uint8) * sector
        for i in range(FRAMES)
    ]
    return {
        "frames": [records.encode_frame(frame, encoding) for frame in frames],
        "times": np.arange(FRAMES, dtype=np.float32) / np.float32(30),
        "fps": np.float32(30),
        "fps_source": "option",
        "mode": "b_mode",
        "sector": records.pack_sector(sector),
        "clip_id": f"{rng.integers(2**63):016x}",
        "patient_id": f"{rng.integers(2**63):016x}",
        "segment": 0,
        "segments": 1,
    }
