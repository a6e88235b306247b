"""A tiny encoder as an exported folder, and clips of discs whose brightness is what they mean."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from echofm_jax.pytorch import EchoFM, EchoFMConfig

TINY = EchoFMConfig(
    frames=4, size=32, tubelet=2, patch=16, width=16, depth=2, heads=2, mlp_ratio=2.0,
    decoder_width=16, decoder_depth=1, decoder_heads=2, pred_frames=2,
)  # fmt: skip
FPS = 20.0


def tiny(**changes) -> EchoFM:
    """The encoder, the same whenever it is asked for."""
    torch.manual_seed(0)
    return EchoFM(dataclasses.replace(TINY, **changes)).eval()


def write_encoder(folder: Path, **changes) -> Path:
    """What `echofm export` leaves of it, as far as PyTorch users need it."""
    folder.mkdir(parents=True)
    model = tiny(**changes)
    save_file(model.state_dict(), folder / "model.safetensors")
    architecture = dataclasses.asdict(model.config)
    window = {"window_seconds": architecture.pop("window_seconds")}
    described = {"architecture": architecture, "preprocessing": window}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def disc(level: float, seed: int, count: int = 6) -> np.ndarray:
    """A disc of a brightness of 0 to 1 on speckle, [count, 32, 32] uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32] - 15.5
    frames = rng.integers(20, 60, (count, 32, 32))
    return (frames + 180 * level * (np.hypot(x, y) < 12)).astype(np.uint8)


def write_clips(folder: Path, patients: int = 12, each: int = 2, **columns) -> Path:
    """Clips of patients who are dark, grey or bright, in turn, and labels.csv beside them.

    `kind` is dark or bright, `grade` none, mild or severe, `size` a number, and each split has all
    of them. `columns` replace or add to these: of a row's number what it holds.
    """
    folder.mkdir(parents=True)
    rows = []
    for number in range(patients * each):
        patient = number // each
        level = patient % 3 / 2
        name = f"anna{patient}/berta-{number}.npy"
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / name, disc(level, number))
        row = {
            "file": name, "patient": f"carla{patient}", "study": "dora", "fps": FPS,
            "split": ("train", "train", "val", "test")[patient // 3 % 4],
            "kind": "dark" if level < 0.4 else "bright",
            "grade": ("none", "mild", "severe")[patient % 3], "size": 50 + 20 * level,
        }  # fmt: skip
        rows.append(row | {column: of(number) for column, of in columns.items()})
    write_table(folder / "labels.csv", rows)
    return folder


def write_table(path: Path, rows: list[dict]) -> None:
    """Rows of one header; NaN and None are empty."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def read_table(path: Path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))
