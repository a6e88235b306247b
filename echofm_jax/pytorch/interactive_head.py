"""A decoder that outlines whatever structure it is shown, in a folder of its own with its encoder.

    head = EchoFMInteractive.from_pretrained("FOLDER")
    session = head.open("study/clip.dcm", frame=12)
    session.frame                                     # [S, S] pixels: prompts are places in it
    mask, quality = session.click(60, 41)             # [S, S] bool, the IoU that is expected of it
    mask, quality = session.click(75, 50, positive=False)

Needs torch and safetensors; `open` also needs echofm_jax, which reads and cleans the file.

The parts are SAM's (arXiv 2304.02643): what the encoder saw is computed once a frame; tokens of
prompts and of the answer attend to one another and to the image, and the image to them; one token
becomes the weights that tell inside from outside, one the expected IoU. Between them and the pixels
lies the pyramid of `segmentation_head`, whose stem also sees the prompts.

Shapes: B outlines on frames of S x S pixels, L = (S/p)^2 tokens of width D, decoder width C.

SPDX-License-Identifier: Apache-2.0
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interactive_session import Session
from .prompt_encoder import MAPS, PromptEncoder, Prompts, draw_maps, grid_places, waves
from .segmentation_head import DenseHead, SegmentationDecoder


class Seen(NamedTuple):
    """Frames as the encoder saw them."""

    levels: tuple[Tensor, ...]  # [B, L, D] of several depths
    frames: Tensor  # [B, 3, S, S] in [0, 1]

    def rows(self, which: Tensor) -> "Seen":
        """Some of them [n], one possibly several times."""
        return Seen(tuple(level[which] for level in self.levels), self.frames[which])


class TwoWay(nn.Module):
    """Tokens [B, n, C] and image [B, L, C] read one another once."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.to_image = nn.MultiheadAttention(width, heads, batch_first=True)
        self.to_tokens = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(6))

    def forward(
        self, tokens: Tensor, image: Tensor, prompts: Tensor, places: Tensor, absent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both, changed.

        Args:
          tokens: [B, n, C].
          image: [B, L, C].
          prompts: [B, n, C] what the tokens were at first: each is asked for by it, too.
          places: [L, C] of the patches.
          absent: [B, n] tokens that nobody reads.
        """
        x = self.norms[0](tokens)
        asked = x + prompts
        tokens = tokens + self.among(asked, asked, x, absent, need_weights=False)[0]
        x, seen = self.norms[1](tokens), self.norms[2](image)
        tokens = tokens + self.to_image(x + prompts, seen + places, seen, need_weights=False)[0]
        tokens = tokens + self.mlp(self.norms[3](tokens))
        x, seen = self.norms[4](tokens), self.norms[5](image)
        told = self.to_tokens(seen + places, x + prompts, x, absent, need_weights=False)[0]
        return tokens, image + told


class InteractiveDecoder(nn.Module):
    """What the encoder saw of frames, and prompts, to a mask of one structure each.

    Args:
      width: D of the encoder.
      patch: p of the encoder.
      levels: how many depths of the encoder it takes.
      channels: at full size, see `SegmentationDecoder`; C is its widest.
      layers: how often tokens and image read one another.
    """

    def __init__(self, *, width: int, patch: int, levels: int, channels: int, layers: int = 2):
        super().__init__()
        self.patch = patch
        self.pyramid = SegmentationDecoder(
            width=width, patch=patch, classes=channels, levels=levels, channels=channels,
            inputs=3 + MAPS,
        )  # fmt: skip
        wide = self.pyramid.join.out_features  # C
        self.drawn = nn.Conv2d(self.pyramid.stem[-1][0].out_channels, wide, 1)
        self.prompts = PromptEncoder(wide)
        self.answer = nn.Parameter(0.02 * torch.randn(2, wide))  # tokens: the mask, its quality
        self.layers = nn.ModuleList(TwoWay(wide, heads=8) for _ in range(layers))
        self.norm = nn.LayerNorm(wide)
        self.inside = nn.Sequential(nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, channels + 1))
        self.quality = nn.Sequential(nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, 1))

    def forward(self, seen: Seen, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Logits [B, S, S] of the masks, and the IoU expected of each [B], 0 to 1."""
        edges = self.pyramid.edges(torch.cat([seen.frames, draw_maps(prompts)], 1))
        image = self.pyramid.grid(seen.levels)  # [B, C, S/p, S/p]
        grid = image.shape[-1]
        # So that the tokens, too, know the mask before and what lies around a click.
        image = image + self.drawn(F.adaptive_avg_pool2d(edges[-1], grid))
        image = image.flatten(2).transpose(1, 2)  # [B, L, C]
        places = waves(
            grid_places(grid, self.patch, image.device), seen.frames.shape[-1], image.shape[-1]
        )  # [L, C]
        shown, absent = self.prompts(prompts)  # [B, n+2, C], [B, n+2]
        own = torch.cat([self.answer.expand(len(shown), -1, -1), shown], 1)  # [B, n+4, C]
        absent = F.pad(absent, (2, 0), value=False)
        tokens = own
        for layer in self.layers:
            tokens, image = layer(tokens, image, own, places, absent)
        mask, quality = self.norm(tokens[:, :2]).unbind(1)  # [B, C] each
        image = image.transpose(1, 2).unflatten(2, (grid, grid))  # [B, C, S/p, S/p]
        features = self.pyramid.climb(image, edges)  # [B, channels, S, S]
        weights = self.inside(mask)  # [B, channels+1]
        logits = torch.einsum("bchw,bc->bhw", features, weights[:, :-1])  # [B, S, S]
        return logits + weights[:, -1, None, None], self.quality(quality)[:, 0].sigmoid()


@dataclasses.dataclass(frozen=True, kw_only=True)
class InteractiveConfig:
    """What an interactive segmenter was trained on, and how it is built."""

    structures: tuple[str, ...]  # that it was trained to outline; it may be shown others
    channels: int = 8  # of the decoder at full size
    adapter: int = 0  # width of the adapters in the encoder's blocks; 0: it has none
    prompts: int = 0  # learned tokens in each of the encoder's blocks
    colour: bool = False  # whether it was shown colour


class EchoFMInteractive(DenseHead):
    """EchoFM or EchoApex with a decoder that takes prompts: one structure of a frame at a time."""

    CONFIG, NAMES = InteractiveConfig, "structures"

    def __init__(self, encoder: nn.Module, config: InteractiveConfig):
        super().__init__(encoder, config)
        c = encoder.config
        self.decoder = InteractiveDecoder(
            width=c.width, patch=c.patch, levels=len(self.blocks), channels=config.channels
        )

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.decoder.answer.device

    def look(self, clips: Tensor, positions: Tensor) -> Seen:
        """The frames at `positions` [B] of clips [B, 3, T, S, S], one each, by the encoder."""
        each = torch.arange(len(clips), device=clips.device)
        return Seen(*self.seen(clips, each, positions))

    def forward(self, seen: Seen, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """See `InteractiveDecoder.forward`; prompts may lie on another device."""
        return self.decoder(seen, prompts.to(self.device))

    def session(self, clip: np.ndarray, position: int) -> Session:
        """To outline structures in frame `position` of a clip [T, S, S(, 3)] uint8, cleaned.

        T and S are those of `encoder.config`. Raises ValueError where there is no such frame.
        """
        if not 0 <= position < len(clip):
            raise ValueError(f"frame {position}: the clip has frames 0 to {len(clip) - 1}")
        return Session(self, clip, position)

    def open(
        self, file: str | Path, frame: int, *, fps: float = 0.0, precropped: bool = False
    ) -> Session:
        """To outline structures in a frame of a file, read and cleaned as for training.

        Args:
          file: a recording of any format that ingestion takes.
          frame: its number, from 0.
          fps: of files that do not tell theirs; 0 = unknown.
          precropped: it shows the image alone.

        Raises ValueError when the file cannot be used, or has no such frame.
        """
        from data_pipelines.clip import Rejected
        from echofm_jax.pytorch import segmentation_windows as windows

        c = self.encoder.config
        try:
            read = self.read(file, fps, precropped)
        except Rejected as rejected:
            raise ValueError(f"{file}: {rejected.reason}: {rejected.detail}") from None
        total = len(read.frames)
        if not 0 <= frame < total:
            raise ValueError(f"{file}: it has no frame {frame}; give one of 0 to {total - 1}")
        position = windows.centre(c, total, frame, read.fps)
        return self.session(
            read.frames[windows.window(c, total, frame, read.fps, position)], position
        )
