"""EchoFM in PyTorch, one file: a video masked autoencoder for echocardiography and its projector.

    model = EchoFM.from_pretrained("FOLDER").eval()
    features = model.encode(model.preprocess(frames, fps=50))     # frames: uint8 [T, H, W]
    features.tokens, features.frames, features.video       # [B, t*L, D], [B, t, D], [B, D]

Needs torch and safetensors only. Method: EchoFM, arXiv 2410.23413. Parameter names are those of
the public EchoFM checkpoints, so their state dicts load here and these load there.

Shapes: B clips, T frames, H x W pixels, tubelets of u x p x p pixels, t = T/u time steps,
L = (H/p)(W/p) positions, N = t*L tokens in time-major order, D width.

SPDX-License-Identifier: Apache-2.0
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

NORM_EPS = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class EchoFMConfig:
    """Architecture; the defaults are the paper's ViT-L."""

    frames: int = 32
    size: int = 224
    tubelet: int = 4
    patch: int = 16
    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp_ratio: float = 4.0
    decoder_mlp_ratio: float = 0.0  # 0: mlp_ratio
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    pred_frames: int = 8
    window_seconds: float = 0.0  # that the frames of a training clip span; 0: consecutive frames

    @property
    def steps(self) -> int:
        """t, time steps of a clip."""
        return self.frames // self.tubelet

    @property
    def positions(self) -> int:
        """L, positions of a time step."""
        return (self.size // self.patch) ** 2


class Features(NamedTuple):
    """What `EchoFM.encode` returns."""

    tokens: Tensor  # [B, t*L, D] encoder output, time-major
    frames: Tensor  # [B, t, D] phase embedding of each time step
    video: Tensor  # [B, D] mean of the tokens


class Reconstruction(NamedTuple):
    """What `EchoFM.reconstruct` returns."""

    latent: Tensor  # [B, visible, D] encoder output of the visible tokens
    pred: Tensor  # [B, t*L, pred_frames/t*p*p*3] pixels, ordered (frame, row, column, RGB)
    mask: Tensor  # [B, t*L] bool, True = masked


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, N, D]."""
        q, k, v = (
            dense(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, D/heads]
            for dense in (self.q, self.k, self.v)
        )
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).flatten(2))  # [B, N, D]


class Mlp(nn.Module):
    """Two dense layers with exact GELU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, N, D]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Tubelets to tokens."""

    def __init__(self, tubelet: int, patch: int, width: int):
        super().__init__()
        size = (tubelet, patch, patch)
        self.proj = nn.Conv3d(3, width, kernel_size=size, stride=size)

    def forward(self, clips: Tensor) -> Tensor:
        """[B, 3, T, H, W] to [B, t*L, D]."""
        return self.proj(clips).flatten(2).transpose(1, 2)


class EchoFM(nn.Module):
    """Encoder, projector and decoder of EchoFM."""

    def __init__(self, config: EchoFMConfig):
        super().__init__()
        c = self.config = config
        pairs = (
            (c.frames, c.tubelet),
            (c.size, c.patch),
            (c.width, c.heads),
            (c.decoder_width, c.decoder_heads),
        )
        if any(part < 1 or whole < part or whole % part for whole, part in pairs):
            raise ValueError(f"sizes that do not divide each other: {c}")
        self.gradient_checkpointing = False  # True: the backward pass recomputes every block
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.decoder_cls_token = nn.Parameter(torch.zeros(1, 1, c.decoder_width))
        self.decoder_prj_cls_token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.pos_embed_spatial = nn.Parameter(torch.zeros(1, c.positions, c.width))
        self.pos_embed_temporal = nn.Parameter(torch.zeros(1, c.steps, c.width))
        self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, c.width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, c.decoder_width))
        self.decoder_pos_embed_spatial = nn.Parameter(torch.zeros(1, c.positions, c.decoder_width))
        self.decoder_pos_embed_temporal = nn.Parameter(torch.zeros(1, c.steps, c.decoder_width))
        self.decoder_pos_embed_class = nn.Parameter(torch.zeros(1, 1, c.decoder_width))

        # Encoder.
        self.patch_embed = PatchEmbed(c.tubelet, c.patch, c.width)
        self.blocks = nn.ModuleList(Block(c.width, c.heads, c.mlp_ratio) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width, eps=NORM_EPS)

        # Projector: one block, shared by all time steps.
        self.decoder_block = Block(c.width, c.heads, c.mlp_ratio)
        self.prj_norm = nn.LayerNorm(c.width, eps=NORM_EPS)

        # Decoder.
        self.decoder_embed = nn.Linear(c.width, c.decoder_width)
        ratio = c.decoder_mlp_ratio or c.mlp_ratio
        self.decoder_blocks = nn.ModuleList(
            Block(c.decoder_width, c.decoder_heads, ratio) for _ in range(c.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(c.decoder_width, eps=NORM_EPS)
        pixels = c.pred_frames // c.steps * c.patch**2 * 3
        self.decoder_pred = nn.Linear(c.decoder_width, pixels)
        for token in self.parameters(recurse=False):
            nn.init.trunc_normal_(token, std=0.02)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        frames: int | None = None,
        size: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "EchoFM":
        """Load an exported folder (`config.json` and `model.safetensors`), on the CPU.

        Args:
          folder: what `echofm export` wrote; nothing in it is run, nothing unpickled.
          frames, size: of other clips than the model was trained on, see `resize`.
          dtype: float32, or bfloat16 or float16, then from the copy in it where there is one.

        Raises FileNotFoundError when a file is absent and ValueError, naming the file and the
        parameters, when one is damaged, was changed since the export or is another model's.
        """
        folder = Path(folder)
        config_file, weights_file = folder / "config.json", folder / "model.safetensors"
        copy = folder / f"model.{str(dtype).removeprefix('torch.')}.safetensors"
        if copy.is_file():
            weights_file = copy
        require(config_file, weights_file)
        try:
            fields = json.loads(config_file.read_text())
            window = fields["preprocessing"]["window_seconds"]
            known = {field.name for field in dataclasses.fields(EchoFMConfig)}
            if unknown := sorted(set(fields["architecture"]) - known):
                raise ValueError(
                    f"it has {', '.join(unknown)}, which this version does not know: "
                    "exported by a newer echofm_jax? Install that"
                )
            config = EchoFMConfig(**fields["architecture"], window_seconds=window)
            with torch.device("meta"):  # no memory, no initialisation: the file has every value
                model = cls(config)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{config_file}: not a config of EchoFM ({error})") from error
        # transformers saves them under the name of the model that wraps this one.
        found = read_weights(weights_file)
        state = {key.removeprefix("echofm."): value for key, value in found.items()}
        if different := differences(model, state):
            raise ValueError(
                f"{weights_file}: not the weights of its config: {different}. Usually "
                f"{_usual_mistake(model, state)}"
            )
        model.load_state_dict(state, assign=True)
        return model.to(dtype).resize(frames, size)

    def resize(self, frames: int | None = None, size: int | None = None) -> "EchoFM":
        """Make it take clips of other `frames` and `size`; returns itself.

        The position embeddings of space are interpolated bicubically, those of time linearly: the
        clip is to span the window of training, in more or fewer frames. `preprocess` sees to that,
        but where `window_seconds` is 0 it takes consecutive frames, as many as `frames` says.
        Raises ValueError when the tubelets do not fit.
        """
        c = self.config
        frames = c.frames if frames is None else frames
        size = c.size if size is None else size
        if min(frames, size) < 1 or frames % c.tubelet or size % c.patch:
            raise ValueError(
                f"clips of {frames} frames of {size}x{size} pixels: this model takes multiples of "
                f"{c.tubelet} frames and {c.patch} pixels"
            )
        # A token goes on reconstructing as many frames as it did.
        pred_frames = c.pred_frames // c.steps * (frames // c.tubelet)
        self.config = dataclasses.replace(c, frames=frames, size=size, pred_frames=pred_frames)
        before, after = c.size // c.patch, size // c.patch
        for part in ("", "decoder_"):
            if after != before:
                self._interpolate(f"{part}pos_embed_spatial", (before, before), (after, after))
            if frames != c.frames:
                steps = (self.config.steps,)
                self._interpolate(f"{part}pos_embed_temporal", (c.steps,), steps)
        return self

    def _interpolate(self, name: str, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        """Positions [1, N, D] on a line or a square grid of `before`, to one of `after`."""
        parameter = self.get_parameter(name)
        x = parameter.detach().float().transpose(1, 2).unflatten(2, before)  # [1, D, (g,) g]
        mode = "linear" if len(before) == 1 else "bicubic"
        x = F.interpolate(x, after, mode=mode, align_corners=False)  # [1, D, (g',) g']
        x = x.flatten(2).transpose(1, 2).contiguous()  # [1, N', D]
        setattr(self, name, nn.Parameter(x.to(parameter.dtype), parameter.requires_grad))

    def preprocess(self, frames: Tensor, fps: float | None = None) -> Tensor:
        """Frames as decoded to clips as this model takes them, see `preprocess`."""
        return preprocess(frames, self.config, fps, self.cls_token.device)

    def encode(self, clips: Tensor) -> Features:
        """Features of whole clips, [B, 3, T, H, W] in [0, 1]; differentiable."""
        tokens = self.encode_tokens(clips)
        return Features(tokens, self.project(tokens), tokens.mean(1))

    forward = encode

    def reconstruct(self, clips: Tensor, mask: Tensor) -> Reconstruction:
        """Predict the pixels of masked tokens from the visible ones.

        Args:
          clips: [B, 3, T, H, W] in [0, 1].
          mask: bool, True = masked: [B, L] for the same positions in every time step, or
            [B, t*L]. Every clip must have equally many visible tokens.
        """
        if mask.shape[1] == self.config.positions:
            mask = mask.repeat(1, self.config.steps)  # [B, t*L]
        counts = (~mask).sum(1)
        if (counts != counts[0]).any():
            raise ValueError(f"mask: {counts.tolist()} tokens are visible; make it equally many")
        visible = (~mask).nonzero()[:, 1].view(len(mask), -1)  # [B, n], ascending
        latent = self.encode_tokens(clips, visible)
        return Reconstruction(latent, self.decode(latent, visible), mask)

    def encode_tokens(self, clips: Tensor, visible: Tensor | None = None) -> Tensor:
        """Clips to normalised tokens [B, n, D]: those at `visible` [B, n], else all t*L."""
        return self.norm(self._run(self.blocks, self._embed(clips, visible)))[:, 1:]

    def frame_embeddings(self, clips: Tensor) -> Tensor:
        """Clips to the phase embedding of each time step, [B, t, D]."""
        return self.project(self.encode_tokens(clips))

    def levels(self, clips: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Tokens [B, t*L, D] after each of `blocks` (0 is the first), all normalised by `norm`.

        For dense tasks; the last block's are those of `encode_tokens`. Blocks above the highest
        are not run.
        """
        x = self._embed(clips, None)  # [B, 1+t*L, D]
        found = {}
        for number in range(max(blocks) + 1):
            x = self._run(self.blocks[number : number + 1], x)
            if number in blocks:
                found[number] = self.norm(x)[:, 1:]
        return [found[number] for number in blocks]

    def frame_levels(
        self, clips: Tensor, blocks: Sequence[int], which: Tensor, positions: Tensor
    ) -> list[Tensor]:
        """Tokens [n, L, D] of the time steps that hold n frames, as `levels` has them.

        The frames are those at `positions` [n] of the clips `which` [n].
        """
        c = self.config
        steps = positions // c.tubelet
        return [
            level.unflatten(1, (c.steps, -1))[which, steps]  # [n, L, D]
            for level in self.levels(clips, blocks)
        ]

    def _embed(self, clips: Tensor, visible: Tensor | None) -> Tensor:
        """Clips to what the first block takes: a CLS token, then those of `visible`, else all."""
        c = self.config
        if clips.shape[1:] != (3, c.frames, c.size, c.size):
            raise ValueError(
                f"clips: shape {tuple(clips.shape)}; this model takes "
                f"[B, 3, {c.frames}, {c.size}, {c.size}], see preprocess"
            )
        x = self.patch_embed(clips.to(self.cls_token.dtype))  # [B, t*L, D]
        x = x + _positions(self.pos_embed_spatial, self.pos_embed_temporal)
        if visible is not None:
            x = x.gather(1, visible.unsqueeze(-1).expand(-1, -1, c.width))  # [B, n, D]
        cls = (self.cls_token + self.pos_embed_class).expand(x.shape[0], -1, -1)
        return torch.cat([cls, x], 1)  # [B, 1+n, D]

    def project(self, latent: Tensor) -> Tensor:
        """Phase embeddings [B, t, D] of tokens [B, t*n, D] with n in every time step."""
        x = latent.unflatten(1, (self.config.steps, -1)).flatten(0, 1)  # [B*t, n, D]
        x = torch.cat(
            [self.decoder_prj_cls_token.expand(x.shape[0], -1, -1), x], 1
        )  # [B*t, 1+n, D]
        x = self.prj_norm(self.decoder_block(x)[:, 0])  # [B*t, D]
        return x.unflatten(0, (-1, self.config.steps))  # [B, t, D]

    def decode(self, latent: Tensor, visible: Tensor) -> Tensor:
        """Tokens [B, n, D] and where they are [B, n] to pixels of all t*L tokens, see `pred`."""
        c = self.config
        seen = self.decoder_embed(latent)  # [B, n, Dd]
        hidden = self.mask_token.to(seen.dtype)
        x = hidden.expand(seen.shape[0], c.steps * c.positions, -1)  # [B, t*L, Dd]
        x = x.scatter(1, visible.unsqueeze(-1).expand_as(seen), seen)
        x = x + _positions(self.decoder_pos_embed_spatial, self.decoder_pos_embed_temporal)
        cls = (self.decoder_cls_token + self.decoder_pos_embed_class).expand(x.shape[0], -1, -1)
        x = torch.cat([cls, x], 1)  # [B, 1+t*L, Dd]
        return self.decoder_pred(self.decoder_norm(self._run(self.decoder_blocks, x))[:, 1:])

    def _run(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        """Blocks one after another over x [B, N, D]."""
        return run_blocks(blocks, x, recompute=self.gradient_checkpointing)


def run_blocks(blocks: nn.ModuleList, x: Tensor, *, recompute: bool) -> Tensor:
    """Blocks one after another over x [B, N, D]; `recompute`: again in the backward pass."""
    for block in blocks:
        if recompute and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
    return x


def require(*files: Path) -> None:
    """Raise FileNotFoundError, naming the first that is absent."""
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; give the folder that holds it")


def read_weights(file: Path, digests: str = "config.json") -> dict[str, Tensor]:
    """A safetensors file that is whole, and the one whose SHA-256 stands in `digests` beside it.

    Raises ValueError, naming it, where it is not.
    """
    refuse_changed(file, digests)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: truncated or damaged ({error}); copy it again") from error


def preprocess(
    frames: Tensor,
    config: EchoFMConfig,
    fps: float | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Frames as decoded to clips as a model of `config` takes them.

    Args:
      frames: uint8 tensor or array, grey [T, H, W] or [B, T, H, W], or colour with a last
        axis of 3. T is free: the central window of the length that the model was trained on
        is taken. Another height or width is resized to `config.size`, black filling the square.
      fps: frames per second. Not needed where `config.window_seconds` is 0 (the window is of
        consecutive frames), or where `frames` are a window already (T is `config.frames`).

    Returns:
      float32 [B, 3, config.frames, size, size] in [0, 1]; grey is repeated to three channels.
    """
    if not isinstance(frames, Tensor):
        frames = torch.tensor(frames)
    if frames.dtype != torch.uint8:
        raise ValueError(f"frames: {frames.dtype}; give uint8 pixels, 0 to 255")
    if frames.shape[-1] != 3 or frames.ndim == 3:
        frames = frames.unsqueeze(-1)  # [(B,) T, H, W, 1]
    if frames.ndim == 4:
        frames = frames.unsqueeze(0)  # [1, T, H, W, C]
    if frames.ndim != 5 or 0 in frames.shape:
        raise ValueError(
            f"frames: shape {tuple(frames.shape)}; give [T, H, W] or [B, T, H, W], with a "
            "last axis of 3 for colour"
        )
    x = frames[:, _window(config, frames.shape[1], fps)]  # [B, config.frames, H, W, C]
    x = x.to(device, torch.float32).permute(0, 4, 1, 2, 3) / 255
    if x.shape[-2:] != (config.size, config.size):
        images = x.flatten(0, 2).unsqueeze(1)  # [B*C*frames, 1, H, W]
        height, width = images.shape[-2:]
        scale = config.size / max(height, width)  # aspect kept, black around, as in training
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        images = F.interpolate(images, (h, w), mode="bilinear", antialias=True)
        top, left = (config.size - h) // 2, (config.size - w) // 2
        images = F.pad(images, (left, config.size - w - left, top, config.size - h - top))
        x = images.view(*x.shape[:3], config.size, config.size)
    return x.expand(-1, 3, -1, -1, -1)  # [B, 3, frames, size, size]


def _window(config: EchoFMConfig, total: int, fps: float | None) -> Tensor:
    """Indices [config.frames] of a recording's central window; a short one starts anew."""
    c = config
    stride = 1.0
    if c.window_seconds and total != c.frames and not fps:
        raise ValueError(f"fps is needed to take {c.window_seconds} s out of {total} frames")
    if c.window_seconds and fps:
        stride = c.window_seconds * fps / c.frames
    samples = stride * torch.arange(c.frames, dtype=torch.float64)
    starts = math.ceil(total - 0.5 - samples[-1].item())  # from which the window fits
    nearest = ((max(starts - 1, 0) // 2 + samples) % total + 0.5).long()
    return nearest % total


def differences(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Keys and shapes in which weights are not those of a model, the first of many; or nothing."""
    known = model.state_dict()
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(known[key].shape)}"
        for key in known
        if key in state and state[key].shape != known[key].shape
    ]
    wrong = {
        "missing": [key for key in known if key not in state],
        "unknown": [key for key in state if key not in known],
        "of another shape": shapes,
    }
    return "; ".join(
        f"{len(keys)} {what} ({', '.join(keys[:5])}{', …' * (len(keys) > 5)})"
        for what, keys in wrong.items()
        if keys
    )


def _usual_mistake(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Where weights with such keys and shapes usually come from."""
    missing = model.state_dict().keys() - state.keys()
    if any(".qkv." in key for key in state):
        return "they are of another code, which fuses q, k and v (timm, VideoMAE, DINO)"
    if any(key.startswith(("module.", "_orig_mod.")) for key in state):
        return "they were saved inside DataParallel or torch.compile: remove the keys' prefix"
    if missing and all(key.startswith(("decoder", "mask", "prj")) for key in missing):
        return "they are an encoder's alone, without decoder and projector"
    if state.keys() == model.state_dict().keys():
        return "the config is of another size, clip or patch than the weights"
    return "weights and config are of two models: copy both from one export"


def _positions(spatial: Tensor, temporal: Tensor) -> Tensor:
    """Position embeddings [1, L, D] and [1, t, D] to one for every token, [1, t*L, D]."""
    return (temporal.unsqueeze(2) + spatial.unsqueeze(1)).flatten(1, 2)


def load_program(file: str | Path) -> nn.Module:
    """A `.pt2` of an exported folder, to be called as its card says.

    PyTorch unpickles parts of such files, so one without its digest in `config.json` (of an image
    backbone `echoapex.json`), or with another, is refused with ValueError before it is read.
    """
    if not any([refuse_changed(Path(file), told) for told in ("config.json", "echoapex.json")]):
        raise ValueError(f"{file}: its folder holds no SHA-256 of it; export it again")
    return torch.export.load(file).module()


def refuse_changed(file: Path, told: str = "config.json") -> bool:
    """Whether the folder's `told` knows this file's digest; ValueError when it is another."""
    try:
        expected = json.loads(file.with_name(told).read_text())["sha256"][file.name]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while chunk := handle.read(2**20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise ValueError(
            f"{file}: truncated, damaged or changed since its export (its SHA-256 is not that in "
            f"{told}); copy the folder again"
        )
    return True
