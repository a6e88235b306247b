"""The shape of an EchoFM model, and what follows from it. No JAX in here."""

import dataclasses
from typing import ClassVar

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of encoder, projector and decoder (EchoFM, TMI 2025, section III).

    Symbols used throughout: T frames of size×size pixels, t = T/tubelet time steps,
    L = (size/patch)² positions, D width, Dd decoder width.
    """

    COUNTS: ClassVar = (  # fields that are at least 1
        "width", "heads", "depth", "decoder_heads", "decoder_depth", "tubelet", "patch", "frames",
        "pred_frames", "size",
    )  # fmt: skip
    width: int = 1024
    depth: int = 24
    heads: int = 16
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    mlp_ratio: float = 4.0
    decoder_mlp_ratio: float = 0.0  # 0: mlp_ratio, as in the public code
    frames: int = 32
    size: int = 224
    tubelet: int = 4
    patch: int = 16
    pred_frames: int = 8  # frames that the decoder reconstructs
    dtype: str = "float32"  # of activations; parameters, softmax, norms and losses are float32
    attention: str = "auto"  # `auto` (by platform), `plain` or `splash`: see attention.py
    remat: str = "full"  # what the backward pass recomputes: `full`, `dots` or `none` (remat.py)

    @property
    def summary(self) -> str:
        """Sizes, for a person."""
        return (
            f"{self.width} × {self.depth}, decoder {self.decoder_width} × {self.decoder_depth} "
            f"({self.decoder_heads} heads)"
        )

    @property
    def hidden(self) -> int:
        """Hidden units of the encoder's and the projector's MLPs."""
        return int(self.width * self.mlp_ratio)

    @property
    def decoder_hidden(self) -> int:
        """Hidden units of the decoder's MLPs."""
        return int(self.decoder_width * (self.decoder_mlp_ratio or self.mlp_ratio))

    @property
    def grid(self) -> int:
        """Positions along one side."""
        return self.size // self.patch

    @property
    def steps(self) -> int:
        """t: time steps."""
        return self.frames // self.tubelet

    @property
    def positions(self) -> int:
        """L: spatial positions of one step."""
        return self.grid**2

    @property
    def tokens(self) -> int:
        """t·L."""
        return self.steps * self.positions

    @property
    def pred_tubelet(self) -> int:
        """Frames that one token reconstructs."""
        return self.tubelet * self.pred_frames // self.frames

    @property
    def target_frames(self) -> np.ndarray:
        """[pred_frames] indices of the reconstructed frames: evenly spaced, truncated."""
        return np.linspace(0, self.frames - 1, self.pred_frames).astype(int)

    def problems(self) -> list[str]:
        """What is impossible about these numbers, each with what would do; empty if nothing."""
        rules = [
            (self.frames % self.tubelet, f"model.frames={self.frames} is not divisible by "
             f"model.tubelet={self.tubelet}"),
            (self.size % self.patch, f"model.size={self.size} is not divisible by "
             f"model.patch={self.patch}"),
            (self.width % self.heads, f"model.width={self.width} is not divisible by "
             f"model.heads={self.heads}"),
            (self.decoder_width % self.decoder_heads, f"model.decoder_width={self.decoder_width} "
             f"is not divisible by model.decoder_heads={self.decoder_heads}"),
            (self.pred_frames % max(self.steps, 1) or self.pred_frames > self.frames,
             f"model.pred_frames={self.pred_frames} is not a multiple of the {self.steps} time "
             f"steps, or exceeds model.frames={self.frames}"),
        ]  # fmt: skip
        return [text for broken, text in rules if broken]
