"""A decoder from EchoFM's tokens to label maps, in a folder of its own with its encoder.

    head = EchoFMSegmenter.from_pretrained("FOLDER")
    for found in head.predict(["study/clip.dcm", "other.avi"]):
        found["labels"], found["structures"]  # [T, S, S], names of its values

Needs torch and safetensors; `predict` also needs echofm_jax, which reads and cleans the files.

The design is that of dense heads on vision transformers: tokens of several
depths joined on their grid (SETR-MLA, arXiv 2012.15840), then brought to full size step by step,
each beside features that convolutions took from the image itself (UNETR, arXiv 2103.10504).
A patch is 16 pixels wide, a wall three: the tokens tell what lies where, the image its edge.

Shapes: B frames of S x S pixels, L = (S/p)^2 tokens of width D, K classes, background first.

SPDX-License-Identifier: Apache-2.0
"""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .trained_echofm import add_adapters, add_prompts, load_model

if TYPE_CHECKING:
    from data_pipelines.cleaned_file import CleanedFile


def spread(depth: int, levels: int = 4) -> tuple[int, ...]:
    """Numbers of at most `levels` blocks, evenly spaced, the last of them the encoder's last."""
    levels = min(levels, depth)
    return tuple((i + 1) * depth // levels - 1 for i in range(levels))


class Convolutions(nn.Sequential):
    """Two 3x3 convolutions, each with GroupNorm and GELU; `stride` is the first one's."""

    def __init__(self, inside: int, outside: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
            nn.GroupNorm(8, outside),
            nn.GELU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.GroupNorm(8, outside),
            nn.GELU(),
        )


class SegmentationDecoder(nn.Module):
    """Tokens of the time step that holds a frame, and the frame, to its label map.

    Args:
      width: D of the encoder.
      patch: p of the encoder.
      classes: K, background included.
      levels: how many depths of the encoder it takes, see `spread`.
      channels: at full size; twice as many at each halving. A multiple of 8.
      inputs: channels of the pictures: the frame's, and what else is known of each pixel.
    """

    def __init__(
        self, *, width: int, patch: int, classes: int, levels: int = 4, channels: int = 16,
        inputs: int = 3,
    ):  # fmt: skip
        super().__init__()
        halvings = max(1, patch.bit_length() - 1)  # from full size to about that of the grid
        sizes = [channels * 2**i for i in range(halvings + 1)]
        self.stem = nn.ModuleList(
            Convolutions(before, after, stride=1 if i == 0 else 2)
            for i, (before, after) in enumerate(pairwise([inputs, *sizes[:-1]]))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(levels))
        self.join = nn.Linear(levels * width, sizes[-1])
        self.up = nn.ModuleList(
            Convolutions(coarse + fine, fine) for fine, coarse in reversed(list(pairwise(sizes)))
        )
        self.out = nn.Conv2d(channels, classes, 1)

    def forward(self, levels: Sequence[Tensor], frames: Tensor) -> Tensor:
        """Tokens, each [B, L, D], and frames [B, 3, S, S] in [0, 1] to logits [B, K, S, S]."""
        return self.climb(self.grid(levels), self.edges(frames))

    def edges(self, pictures: Tensor) -> list[Tensor]:
        """What convolutions see of pictures [B, inputs, S, S]: at full size, half of it, ..."""
        found = []
        x = pictures.to(self.out.weight.dtype)
        for convolutions in self.stem:
            x = convolutions(x)  # [B, C, S, S], then [B, 2C, S/2, S/2] and so on
            found.append(x)
        return found

    def grid(self, levels: Sequence[Tensor]) -> Tensor:
        """Tokens of all depths, each [B, L, D], joined: [B, C', S/p, S/p]."""
        tokens = [norm(level) for norm, level in zip(self.norms, levels, strict=True)]
        x = self.join(torch.cat(tokens, -1))  # [B, L, C']
        grid = round(x.shape[1] ** 0.5)
        return x.transpose(1, 2).unflatten(2, (grid, grid))  # [B, C', S/p, S/p]

    def climb(self, x: Tensor, edges: Sequence[Tensor]) -> Tensor:
        """From the grid [B, C', S/p, S/p] up along the edges: [B, K, S, S]."""
        for convolutions, edge in zip(self.up, reversed(edges), strict=True):
            x = F.interpolate(x, edge.shape[-2:], mode="bilinear")  # to the edge's size
            x = convolutions(torch.cat([x, edge], 1))
        return self.out(x)  # [B, K, S, S]


class DenseHead(nn.Module):
    """EchoFM or EchoApex, of whose tokens of several depths a decoder makes something, a frame.

    Subclasses make `self.decoder`. Their config has `adapter` and `prompts`, widths and counts of
    what is put into the encoder's blocks, and `colour`, whether it was shown colour.
    """

    CONFIG: type  # the config's class
    NAMES: str  # its field that is a tuple of names

    def __init__(self, encoder: nn.Module, config: object):
        super().__init__()
        self.encoder, self.config = encoder, config
        add_adapters(encoder, config.adapter)
        add_prompts(encoder, config.prompts)
        self.blocks = spread(encoder.config.depth)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "DenseHead":
        """Load a folder that `echofm finetune` wrote, on the CPU, ready to be used.

        Nothing in it is run, nothing unpickled. Raises FileNotFoundError when a file is absent and
        ValueError, naming it, when one is damaged, changed or of a newer version.
        """
        return load_model(cls, Path(folder), cls.CONFIG, cls.NAMES)

    def seen(
        self, clips: Tensor, which: Tensor, positions: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Tokens [n, L, D] of each depth, and pixels [n, 3, S, S], of n frames of clips.

        Args:
          clips: [B, 3, T, S, S] in [0, 1], as the encoder's `preprocess` makes them.
          which: [n] the clips that the frames are of.
          positions: [n] where in those clips they are.
        """
        levels = self.encoder.frame_levels(clips, self.blocks, which, positions)  # [n, L, D] each
        return tuple(levels), clips[which, :, positions]

    def read(self, file: str | Path, fps: float, precropped: bool) -> "CleanedFile":
        """A file, read and cleaned as for training. Raises `data_pipelines.clip.Rejected`."""
        from data_pipelines.cleaned_file import read_cleaned

        return read_cleaned(
            Path(file), size=self.encoder.config.size, colour=self.config.colour,
            fps=fps, precropped=precropped,
        )  # fmt: skip

    def each(
        self, files: Sequence[str | Path], answer: Callable, fps: float, precropped: bool
    ) -> list[dict]:
        """`answer`(file as `read` gives it) of each file, beside the pixels that were seen."""
        from data_pipelines.clip import Rejected

        found = []
        for file in files:
            try:
                clip = self.read(file, fps, precropped)
            except Rejected as rejected:
                found.append({"refused": f"{rejected.reason}: {rejected.detail}"})
                continue
            pixels = {"frames": clip.frames, "fps": clip.fps, "spacing": clip.spacing}
            found.append(answer(clip) | pixels)
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """What a segmenter tells apart, and how it is built."""

    structures: tuple[str, ...]  # names of the K classes, background first
    channels: int = 16  # of the decoder at full size
    adapter: int = 0  # width of the adapters in the encoder's blocks; 0: it has none
    prompts: int = 0  # learned tokens in each of the encoder's blocks
    colour: bool = False  # whether it was shown colour


class EchoFMSegmenter(DenseHead):
    """An encoder with a decoder: label maps of chosen frames of clips."""

    CONFIG, NAMES = SegmentationConfig, "structures"

    def __init__(self, encoder: nn.Module, config: SegmentationConfig):
        super().__init__(encoder, config)
        c = encoder.config
        self.decoder = SegmentationDecoder(
            width=c.width, patch=c.patch, classes=len(config.structures),
            levels=len(self.blocks), channels=config.channels,
        )  # fmt: skip

    def forward(self, clips: Tensor, which: Tensor, positions: Tensor) -> Tensor:
        """Logits [n, K, S, S] of n frames: those at `positions` [n] of the clips `which` [n]."""
        return self.decoder(*self.seen(clips, which, positions))

    @torch.inference_mode()
    def predict(
        self, files: Sequence[str | Path], *, fps: float = 0.0, precropped: bool = False
    ) -> list[dict]:
        """Label maps of every frame of each file, read and cleaned as for training.

        `{"labels": uint8 [T, S, S], "structures": names of its values, "frames": [T, S, S(, 3)] the
        pixels that were seen, "fps": 0 = unknown, "spacing": mm a pixel [2], nan = unknown}`, of a
        file that cannot be used `{"refused": reason}`. `fps`: of files that do not tell theirs;
        `precropped`: they show the image alone.
        """
        from echofm_jax.pytorch.segmentation import label_frames

        def answer(clip: "CleanedFile") -> dict:
            labels = label_frames(self, clip.frames, clip.fps)
            return {"labels": labels, "structures": self.config.structures}

        return self.each(files, answer, fps, precropped)
