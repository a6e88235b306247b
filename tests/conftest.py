"""Small data sets and models that several tests train on; real shards, real files."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import records, shards

SAMPLES = Path(
    os.environ.get("ECHOFM_SAMPLES", Path(__file__).parents[2] / "shared" / "data" / "echo_samples")
)
REPO = Path(__file__).parents[1]
# Overrides that make configs/smoke.py a model which compiles in seconds.
TINY = {
    "model.size": 32, "model.frames": 16, "model.pred_frames": 4, "model.width": 32,
    "model.depth": 2, "model.heads": 2, "model.decoder_width": 32, "model.decoder_depth": 2,
    "model.decoder_heads": 2, "data.batch_size": 4, "data.window_seconds": 0.0,
    "train.log_every": 1,
}  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """The same small model compiles once, in this process and in those that tests start."""
    cache = tempfile.TemporaryDirectory(prefix="echofm-tests-")
    config.add_cleanup(cache.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"


def overrides(**changes) -> list[str]:
    """`--config.…` arguments of the tiny model; `a__b=1` means a.b=1."""
    values = TINY | {name.replace("__", "."): value for name, value in changes.items()}
    return [f"--config.{name}={value}" for name, value in values.items()]


def beating_disc(number: int, frames: int = 40, size: int = 32, beat: int = 12) -> dict:
    """A record: a disc whose radius beats, with its true phase."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size] - size / 2
    phase = (np.arange(frames) / beat + rng.uniform()) % 1
    radius = size * (0.25 + 0.1 * np.cos(2 * np.pi * phase))
    texture = rng.uniform(20, 60, (size, size))
    images = texture + 150 * (np.hypot(x, y)[None] < radius[:, None, None])
    return {
        "frames": [records.encode_frame(image.astype(np.uint8), "zstd") for image in images],
        "times": np.arange(frames, dtype=np.float32) / np.float32(30),
        "fps": np.float32(30),
        "fps_source": "labels",
        "mode": "b_mode",
        "sector": records.pack_sector(np.ones((size, size), bool)),
        "clip_id": f"{number:016x}",
        "patient_id": f"{number:016x}",
        "segment": 0,
        "segments": 1,
        "view": "A4C",
        "ejection_fraction": np.float32(60),
        "phase": phase.astype(np.float32),
        "end_diastole": np.flatnonzero(np.diff(phase, prepend=1) < 0).astype(np.int32),
        "end_systole": np.zeros(0, np.int32),
    }


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """Twelve training and four validation records of 32×32 pixels."""
    folder = tmp_path_factory.mktemp("tiny") / "data"
    splits = {"train": map(beating_disc, range(12)), "val": map(beating_disc, range(12, 16))}
    shards.write_dataset(folder, splits, size=32, encoding="zstd", simulated=True)
    return folder
