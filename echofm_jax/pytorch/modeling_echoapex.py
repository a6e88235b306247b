"""EchoApex in PyTorch: an image model of DINOv2's kind, run on every frame of a clip.

    model = EchoApex.from_pretrained("FOLDER").eval()
    features = model.encode(model.preprocess(frames, fps=50))     # frames: uint8 [T, H, W]
    features.tokens, features.frames, features.video       # [B, t*L, D], [B, t, D], [B, D]

Needs torch, safetensors and `modeling_echofm.py` beside it. Reads what transformers' Dinov2Model
and Dinov2WithRegistersModel save, public DINOv2 weights among them, without transformers. Methods:
EchoApex, arXiv 2410.11092; DINOv2, arXiv 2304.07193; registers, arXiv 2309.16588.

Shapes: B clips, T = t frames, H x W pixels, patches of p x p, L = (H/p)(W/p) positions, R
registers, N = 1+R+L tokens of a frame (CLS, registers, patches), D width. What a frame gives
depends on no other frame.

SPDX-License-Identifier: Apache-2.0
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .modeling_echofm import (
    Attention,
    Features,
    Mlp,
    differences,
    preprocess,
    read_weights,
    require,
    run_blocks,
)

FORMAT = 1  # of echoapex.json; a reader refuses newer ones
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1]
NAMES = {  # transformers' parameters → these
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "registers",
    "embeddings.patch_embeddings.projection": "patch_embed",
    "encoder.layer": "blocks",
    "attention.attention.query": "attn.q",
    "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "scale1",
    "layer_scale2.lambda1": "scale2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
    "layernorm": "norm",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EchoApexConfig:
    """Architecture; the defaults are DINOv2's ViT-B."""

    frames: int = 8  # of a window that heads read, evenly over it
    size: int = 224
    patch: int = 14
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    swiglu: bool = False  # gated feed-forward layers, two thirds as wide
    registers: int = 0
    antialias: bool = False  # position embeddings are smoothed on their way to a smaller grid
    norm_eps: float = 1e-6
    window_seconds: float = 1.0

    @property
    def tubelet(self) -> int:
        """Frames of a time step."""
        return 1

    @property
    def steps(self) -> int:
        """t, time steps of a clip."""
        return self.frames

    @property
    def positions(self) -> int:
        """L, positions of a frame."""
        return (self.size // self.patch) ** 2

    @property
    def hidden(self) -> int:
        """Width inside a feed-forward layer."""
        whole = int(self.width * self.mlp_ratio)
        return (int(whole * 2 / 3) + 7) // 8 * 8 if self.swiglu else whole


class SwiGlu(nn.Module):
    """Feed-forward layer whose one half is gated by the other (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        gate, value = self.fc1(x).chunk(2, -1)  # [..., hidden] each
        return self.fc2(F.silu(gate) * value)


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale (arXiv 2103.17239)."""

    def __init__(self, config: EchoApexConfig):
        super().__init__()
        c = config
        self.norm1 = nn.LayerNorm(c.width, eps=c.norm_eps)
        self.attn = Attention(c.width, c.heads)
        self.scale1 = nn.Parameter(torch.ones(c.width))
        self.norm2 = nn.LayerNorm(c.width, eps=c.norm_eps)
        self.mlp = (SwiGlu if c.swiglu else Mlp)(c.width, c.hidden)
        self.scale2 = nn.Parameter(torch.ones(c.width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, N, D]."""
        x = x + self.scale1 * self.attn(self.norm1(x))
        return x + self.scale2 * self.mlp(self.norm2(x))


class EchoApex(nn.Module):
    """The backbone, on clips."""

    def __init__(self, config: EchoApexConfig):
        super().__init__()
        c = self.config = config
        pairs = (c.size, c.patch), (c.width, c.heads)
        if c.frames < 1 or any(b < 1 or a < b or a % b for a, b in pairs):
            raise ValueError(f"sizes that do not divide each other: {c}")
        self.gradient_checkpointing = False  # True: the backward pass recomputes every block
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.registers = nn.Parameter(torch.zeros(1, c.registers, c.width))
        self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, c.width))
        self.pos_embed_spatial = nn.Parameter(torch.zeros(1, c.positions, c.width))
        self.patch_embed = nn.Conv2d(3, c.width, kernel_size=c.patch, stride=c.patch)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width, eps=c.norm_eps)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and parameter.numel():
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        frames: int | None = None,
        size: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "EchoApex":
        """Load a Dinov2 folder of transformers' format, on the CPU.

        Args:
          folder: what `echofm export` or transformers wrote; nothing in it is run, nothing
            unpickled. `echoapex.json` in it, if it is there, tells windows and digests.
          frames, size: of other clips than the folder says, see `resize`.
          dtype: of the parameters.

        Raises FileNotFoundError when a file is absent and ValueError, naming the file and the
        parameters, when one is damaged, was changed since the export or is another model's.
        """
        folder = Path(folder)
        config_file, weights_file = folder / "config.json", folder / "model.safetensors"
        require(config_file, weights_file)
        window = _window(folder / "echoapex.json")
        try:
            config = dataclasses.replace(_config(json.loads(config_file.read_text())), **window)
            with torch.device("meta"):  # no memory, no initialisation: the file has every value
                model = cls(config)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{config_file}: not a config of Dinov2 ({error})") from error
        state = renamed(read_weights(weights_file, "echoapex.json"))
        state.setdefault("registers", torch.zeros(1, 0, config.width))
        if different := differences(model, state):
            raise ValueError(
                f"{weights_file}: not the weights of its config: {different}. Copy weights and "
                "config from one folder"
            )
        model.load_state_dict(state, assign=True)
        return model.to(dtype).resize(frames, size)

    def resize(self, frames: int | None = None, size: int | None = None) -> "EchoApex":
        """Make it take clips of other `frames` and `size`; returns itself.

        Position embeddings are interpolated as transformers does. Frames stand for themselves, so
        there may be as many as you like: `preprocess` takes them evenly from the same window.
        Raises ValueError when the patches do not fit.
        """
        c = self.config
        frames = c.frames if frames is None else frames
        size = c.size if size is None else size
        if min(frames, size) < 1 or size % c.patch:
            raise ValueError(
                f"clips of {frames} frames of {size}x{size} pixels: this model takes multiples of "
                f"{c.patch} pixels"
            )
        self.config = dataclasses.replace(c, frames=frames, size=size)
        before, after = c.size // c.patch, size // c.patch
        if after != before:
            old = self.pos_embed_spatial
            x = old.detach().float().transpose(1, 2).unflatten(2, (before, before))  # [1, D, g, g]
            x = F.interpolate(x, (after, after), mode="bicubic", antialias=c.antialias)
            x = x.flatten(2).transpose(1, 2).contiguous()  # [1, L', D]
            self.pos_embed_spatial = nn.Parameter(x.to(old.dtype), old.requires_grad)
        return self

    def preprocess(self, frames: Tensor, fps: float | None = None) -> Tensor:
        """Frames as decoded to clips [B, 3, T, S, S], see `modeling_echofm.preprocess`."""
        return preprocess(frames, self.config, fps, self.cls_token.device)

    def encode(self, clips: Tensor) -> Features:
        """Features of clips, [B, 3, T, H, W] in [0, 1]: patches, CLS of each frame, patches' mean.

        Differentiable. The mean and spread of ImageNet's pixels are taken off in here.
        """
        x = self.norm(self._run(self.blocks, self._embed(clips)))  # [B*t, N, D]
        tokens = self._patches(x)  # [B, t*L, D]
        return Features(tokens, self._frames(x), tokens.mean(1))

    forward = encode

    def encode_tokens(self, clips: Tensor) -> Tensor:
        """Clips to normalised patch tokens [B, t*L, D], time-major."""
        return self._patches(self.norm(self._run(self.blocks, self._embed(clips))))

    def frame_embeddings(self, clips: Tensor) -> Tensor:
        """Clips to the CLS token of each frame, [B, t, D]."""
        return self._frames(self.norm(self._run(self.blocks, self._embed(clips))))

    def levels(self, clips: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Patch tokens [B, t*L, D] after each of `blocks` (0 is the first), all normalised.

        For dense tasks; the last block's are those of `encode_tokens`. Blocks above the highest
        are not run.
        """
        return [self._patches(x) for x in self._levels(self._embed(clips), blocks)]

    def frame_levels(
        self, clips: Tensor, blocks: Sequence[int], which: Tensor, positions: Tensor
    ) -> list[Tensor]:
        """Patch tokens [n, L, D] of n frames, as `levels` has them; no other frame is encoded.

        The frames are those at `positions` [n] of the clips `which` [n].
        """
        self._check(clips)
        places, again = torch.stack([which, positions], 1).unique(dim=0, return_inverse=True)
        x = self._embed_frames(clips[places[:, 0], :, places[:, 1]])  # [m, N, D], each frame once
        first = 1 + self.config.registers
        return [level[again, first:] for level in self._levels(x, blocks)]  # [n, L, D]

    def _levels(self, x: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """What the first block takes, [n, N, D], after each of `blocks`, normalised."""
        found = {}
        for number in range(max(blocks) + 1):
            x = self._run(self.blocks[number : number + 1], x)
            if number in blocks:
                found[number] = self.norm(x)
        return [found[number] for number in blocks]

    def _embed(self, clips: Tensor) -> Tensor:
        """Clips to what the first block takes, [B*t, N, D]."""
        self._check(clips)
        return self._embed_frames(clips.transpose(1, 2).flatten(0, 1))

    def _check(self, clips: Tensor) -> None:
        """Raise ValueError for clips of another shape than the config's."""
        c = self.config
        if clips.shape[1:] != (3, c.frames, c.size, c.size):
            raise ValueError(
                f"clips: shape {tuple(clips.shape)}; this model takes "
                f"[B, 3, {c.frames}, {c.size}, {c.size}], see preprocess"
            )

    def _embed_frames(self, images: Tensor) -> Tensor:
        """Frames [n, 3, S, S] in [0, 1] to what the first block takes, [n, N, D]."""
        channels = zip(images.unbind(1), MEAN, STD, strict=True)
        images = torch.stack([(x - mean) / std for x, mean, std in channels], 1)
        x = self.patch_embed(images.to(self.cls_token.dtype))  # [n, D, S/p, S/p]
        x = x.flatten(2).transpose(1, 2) + self.pos_embed_spatial  # [n, L, D]
        first = torch.cat([self.cls_token + self.pos_embed_class, self.registers], 1)
        return torch.cat([first.expand(x.shape[0], -1, -1), x], 1)  # [n, N, D]

    def _run(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        """Blocks one after another over x [B*t, N, D]."""
        return run_blocks(blocks, x, recompute=self.gradient_checkpointing)

    def _patches(self, x: Tensor) -> Tensor:
        """Tokens [B*t, N, D] of frames to the patches' of clips, [B, t*L, D]."""
        x = x[:, 1 + self.config.registers :]  # [B*t, L, D]
        return x.unflatten(0, (-1, self.config.steps)).flatten(1, 2)  # [B, t*L, D]

    def _frames(self, x: Tensor) -> Tensor:
        """Tokens [B*t, N, D] of frames to the CLS tokens of clips, [B, t, D]."""
        return x[:, 0].unflatten(0, (-1, self.config.steps))  # [B, t, D]


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Transformers' state dict of a Dinov2 model under the names here, without the mask token."""
    found = {}
    for key, value in state.items():
        # A model that wraps the backbone saves it under its name.
        key = key.removeprefix("dinov2.").removeprefix("dinov2_with_registers.")
        if key == "embeddings.position_embeddings":  # [1, 1+L, D]
            found["pos_embed_class"] = value[:, :1].clone()
            found["pos_embed_spatial"] = value[:, 1:].clone()
        elif key != "embeddings.mask_token":
            for theirs, ours in NAMES.items():
                key = key.replace(theirs, ours)
            found[key] = value
    return found


def _config(fields: Mapping) -> EchoApexConfig:
    """Of transformers' config.json; ValueError for what this file cannot compute."""
    kind = fields["model_type"]
    if kind not in ("dinov2", "dinov2_with_registers"):
        raise ValueError(f"its model_type is {kind!r}")
    usual = {"hidden_act": "gelu", "qkv_bias": True, "num_channels": 3}
    for name, value in usual.items():
        if fields.get(name, value) != value:
            raise ValueError(f"{name} {fields[name]!r} is not supported, only {value!r}")
    return EchoApexConfig(
        size=fields["image_size"], patch=fields["patch_size"], width=fields["hidden_size"],
        depth=fields["num_hidden_layers"], heads=fields["num_attention_heads"],
        mlp_ratio=fields["mlp_ratio"], swiglu=fields["use_swiglu_ffn"],
        registers=fields.get("num_register_tokens", 0), norm_eps=fields["layer_norm_eps"],
        antialias=kind == "dinov2_with_registers",
    )  # fmt: skip


def _window(file: Path) -> dict:
    """`frames` and `window_seconds` that echoapex.json says, if there is one."""
    if not file.is_file():
        return {}
    try:
        told = json.loads(file.read_text())
        window = {"frames": int(told["frames"]), "window_seconds": float(told["window_seconds"])}
        version = int(told["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({error!r}); copy the folder again") from error
    if version > FORMAT:
        raise ValueError(f"{file}: of a newer echofm_jax than this one; install that")
    return window
