"""The shape of an image backbone (DINOv2's vision transformer). No JAX in here."""

import dataclasses
from typing import ClassVar

FFNS = ("mlp", "swiglu")
# Of natural images, as the weights that training may start from expect; red, green, blue.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageArchitecture:
    """Sizes of the backbone (DINOv2, TMLR 2024; registers: ICLR 2024).

    Symbols used throughout: S pixels a side, N = (S/patch)² patches, R registers, D width.
    """

    COUNTS: ClassVar = ("width", "depth", "heads", "patch", "size")  # fields that are at least 1

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    ffn: str = "mlp"  # or `swiglu`
    patch: int = 14
    size: int = 224  # of a global crop: positions are learned for its grid
    registers: int = 0
    layer_scale: float = 1e-5  # what the residual branches are multiplied by at first; 0: by none
    drop_path: float = 0.0  # share of residual branches that training leaves out, in every block
    dtype: str = "float32"  # of activations; parameters, softmax, norms and losses are float32
    attention: str = "auto"  # `auto` (by platform), `plain` or `splash`: see attention.py
    remat: str = "full"  # what the backward pass recomputes: `full`, `dots` or `none` (remat.py)

    @property
    def summary(self) -> str:
        """Sizes, for a person."""
        return f"{self.width} × {self.depth}, patches of {self.patch}"

    @property
    def hidden(self) -> int:
        """Hidden units; SwiGLU has two thirds of them, in whole eights, for its third kernel."""
        hidden = int(self.width * self.mlp_ratio)
        return (int(hidden * 2 / 3) + 7) // 8 * 8 if self.ffn == "swiglu" else hidden

    @property
    def grid(self) -> int:
        """Patches along one side of a global crop."""
        return self.size // self.patch

    @property
    def positions(self) -> int:
        """N: patches of a global crop."""
        return self.grid**2

    def problems(self) -> list[str]:
        """What is impossible about these numbers, each with what would do; empty if nothing."""
        rules = [
            (self.size % self.patch, f"model.size={self.size} is not divisible by "
             f"model.patch={self.patch}"),
            (self.width % self.heads, f"model.width={self.width} is not divisible by "
             f"model.heads={self.heads}"),
            (self.ffn not in FFNS, f"model.ffn={self.ffn} is none of {', '.join(FFNS)}"),
            (self.registers < 0, f"model.registers={self.registers} is below 0"),
            (self.layer_scale < 0, f"model.layer_scale={self.layer_scale} is below 0"),
            (not 0 <= self.drop_path < 1, f"model.drop_path={self.drop_path} is not in [0, 1)"),
        ]  # fmt: skip
        return [text for broken, text in rules if broken]
