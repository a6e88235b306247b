"""A decoder from tokens to the walls of the left ventricle, in a folder with its encoder.

    head = EchoFMHypertrophy.from_pretrained("FOLDER")
    for found in head.predict(["study/clip.dcm", "other.avi"]):
        found["ivs"], found["lvid"], found["lvpw"], found["unit"]  # 12.1, 44.0, 11.8, "mm"
        found["hypertrophy"]  # True; None where a pixel's size is not known

Needs torch and safetensors; `predict` also needs echofm_jax, which reads and cleans the files.

In a parasternal long axis four landmarks lie on a line across the ventricle, just below the tips of
the mitral leaflets: the septum's right and left side, the posterior wall's inner and outer one.
Between neighbours lie septum (IVS), cavity (LVID) and posterior wall (LVPW): Lang et al. 2015, J Am
Soc Echocardiogr 28:1. The decoder (see segmentation_head) gives a heatmap for each landmark; its
softmax says how likely the landmark is in each pixel, and the mean place around the likeliest pixel
is the landmark, to a part of a pixel (arXiv 1711.08229, here of the peak's surroundings alone).

Shapes: n frames of S x S pixels, K landmarks, in the order of the line.

SPDX-License-Identifier: Apache-2.0
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .segmentation_head import DenseHead, SegmentationDecoder

if TYPE_CHECKING:
    from data_pipelines.cleaned_file import CleanedFile

LENGTHS = ("ivs", "lvid", "lvpw")  # from each landmark to the next
# Normal walls are at most 9 mm in women and 10 mm in men (Lang et al. 2015): this is more than
# either. Whose heart it is is not known.
THICK = 11.0  # mm
WIDTH = 1 / 56  # of a side: standard deviation of the blob that stands for a landmark
REACH = 3.0  # of those around the likeliest pixel count for its landmark
AROUND = 5  # frames whose median of LVID tells end-diastole: one wrong frame does not
LARGEST = 0.05  # share of a recording's frames that are taken for end-diastole


@dataclasses.dataclass(frozen=True, kw_only=True)
class HypertrophyConfig:
    """What is looked for, and how the decoder is built."""

    landmarks: tuple[str, ...]  # K names, along the line
    channels: int = 16  # of the decoder at full size
    adapter: int = 0  # width of the adapters in the encoder's blocks; 0: it has none
    prompts: int = 0  # learned tokens in each of the encoder's blocks
    colour: bool = False  # whether it was shown colour


class EchoFMHypertrophy(DenseHead):
    """EchoFM or EchoApex with a decoder: landmarks in chosen frames of clips."""

    CONFIG, NAMES = HypertrophyConfig, "landmarks"

    def __init__(self, encoder: nn.Module, config: HypertrophyConfig):
        super().__init__(encoder, config)
        c = encoder.config
        self.decoder = SegmentationDecoder(
            width=c.width, patch=c.patch, classes=len(config.landmarks),
            levels=len(self.blocks), channels=config.channels,
        )  # fmt: skip

    def forward(self, clips: Tensor, which: Tensor, positions: Tensor) -> Tensor:
        """Heatmaps, as logits, [n, K, S, S]: of the frames at `positions` of the clips `which`."""
        return self.decoder(*self.seen(clips, which, positions))

    @torch.inference_mode()
    def predict(
        self, files: Sequence[str | Path], *, fps: float = 0.0, precropped: bool = False
    ) -> list[dict]:
        """Walls and cavity of each file at end-diastole, read and cleaned as for training.

        `{"ivs", "lvid", "lvpw": lengths, "unit": "mm", or "pixels" of `frames` where the file does
        not tell how large one is, "hypertrophy": a wall of THICK mm or more, None in pixels,
        "confidence": 0 to 1, how surely its least certain landmark was found, "end_diastole":
        numbers of the frames that were measured, "landmarks": [T, K, 2] x, y in every frame,
        "names": of them, "frames": [T, S, S(, 3)] the pixels that were seen, "fps": 0 = unknown,
        "spacing": mm a pixel [2], nan = unknown}`, of a file that cannot be used `{"refused":
        reason}`. `fps`: of files that do not tell theirs; `precropped`: they show the image alone.
        """
        from echofm_jax.pytorch.hypertrophy import landmarks_of_frames

        def answer(clip: "CleanedFile") -> dict:
            places, sure = landmarks_of_frames(self, clip.frames, clip.fps)
            told = at_end_diastole(places, sure, clip.spacing)
            return {**told, "landmarks": places, "names": self.config.landmarks}

        return self.each(files, answer, fps, precropped)


def landmarks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Heatmaps [n, K, S, S] to places [n, K, 2] x, y in pixels, and how sure they are [n, K]."""
    size = logits.shape[-1]
    p = logits.float().flatten(2).softmax(-1)  # [n, K, S*S]
    top = p.argmax(-1)  # [n, K]
    peak = torch.stack([top % size, top // size], -1)  # [n, K, 2]
    side = torch.arange(size, device=p.device)
    near = (side - peak.unsqueeze(-1)).abs() <= REACH * WIDTH * size  # [n, K, 2, S] x, y
    near = near[:, :, 1, :, None] & near[:, :, 0, None, :]  # [n, K, S, S]
    p = p.unflatten(2, (size, size)) * near  # [n, K, S, S]
    sure = p.sum((2, 3))  # [n, K]
    x, y = (p.sum(axis) @ side.to(p.dtype) / sure for axis in (2, 3))  # [n, K]
    return torch.stack([x, y], -1), sure


def lengths(places: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """LENGTHS [..., 3] between places [..., 4, 2] x, y: mm where `spacing` is known, else pixels.

    `spacing`: [..., 2] mm a pixel, rows and columns, nan = unknown.
    """
    scale = np.where(np.isfinite(spacing).all(-1, keepdims=True), spacing, 1.0)[..., ::-1]
    return np.linalg.norm(np.diff(places, axis=-2) * scale[..., None, :], axis=-1)


def end_diastole(lvid: np.ndarray) -> np.ndarray:
    """Frames in which the cavity is widest, by LVID [T]: the largest twentieth, at least one."""
    half = AROUND // 2
    padded = np.pad(lvid, half, mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, AROUND), -1)  # [T]
    count = max(1, round(LARGEST * len(lvid)))
    return np.sort(np.argsort(-smooth, kind="stable")[:count])


def at_end_diastole(places: np.ndarray, sure: np.ndarray, spacing: np.ndarray) -> dict:
    """What `predict` says of a recording's landmarks [T, 4, 2], of which it is `sure` [T, 4]."""
    told = lengths(places, spacing)  # [T, 3]
    frames = end_diastole(told[:, LENGTHS.index("lvid")])
    values = np.median(told[frames], 0)  # [3]
    known = bool(np.isfinite(spacing).all())
    ivs, _, lvpw = values
    return {
        **dict(zip(LENGTHS, map(float, values), strict=True)),
        "unit": "mm" if known else "pixels",
        "hypertrophy": bool(max(ivs, lvpw) >= THICK) if known else None,
        "confidence": float(np.median(sure[frames].min(1))),
        "end_diastole": frames,
    }
