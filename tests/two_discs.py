"""Recordings of two equal discs side by side: only a prompt tells which one is meant."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.pytorch import EchoFM, EchoFMConfig

TINY = EchoFMConfig(
    frames=4, size=32, tubelet=2, patch=16, width=24, depth=2, heads=3,
    decoder_width=16, decoder_depth=1, decoder_heads=2, pred_frames=2, window_seconds=1.0,
)  # fmt: skip
STRUCTURES = ("background", "LV", "myocardium", "LA")


@dataclasses.dataclass(frozen=True)
class Discs:
    """Reads LV (1) on the left and LA (3) on the right; two frames are labelled."""

    number: int
    values: tuple[int, ...] = (1, 3)  # those that it shows
    specks: tuple[int, ...] = ()  # those of which it shows a few pixels

    def __call__(self, size: int, colour: bool) -> Pixels:
        rng = np.random.default_rng(self.number)
        rows, columns = np.mgrid[:size, :size]
        labels = np.zeros((size, size), np.uint8)
        for value in self.values:
            left = {1: 8, 3: 23}[value]
            row, column, radius = rng.uniform(9, 22), left + rng.uniform(-1, 1), rng.uniform(4, 6.5)
            radius = 1.5 if value in self.specks else radius
            labels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = value
        noise = rng.integers(0, 40, (6, size, size))
        return Pixels(
            frames=(noise + 150 * (labels > 0)).astype(np.uint8),
            sector=np.ones((size, size), bool),
            fps=4.0,
            spacing=np.full(2, np.nan, np.float32),
            masks={1: labels, 4: labels},
        )


def clips(numbers: range, **shown: tuple[int, ...]) -> tuple[LabelledClip, ...]:
    return tuple(
        LabelledClip(name=f"SECRET/{n}.avi", patient=f"p{n}", targets={}, read=Discs(n, **shown))
        for n in numbers
    )


def write_encoder(folder: Path) -> Path:
    """What an export leaves, of random weights."""
    folder.mkdir()
    torch.manual_seed(0)
    save_file(EchoFM(TINY).state_dict(), folder / "model.safetensors")
    architecture = vars(TINY).copy()
    window = {"window_seconds": architecture.pop("window_seconds")}
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    described = {
        "architecture": architecture, "preprocessing": window,
        "sha256": {"model.safetensors": digest},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(described))
    return folder
