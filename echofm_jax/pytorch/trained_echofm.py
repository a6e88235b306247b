"""What all folders of trained heads share: how they are read, adapters and prompts in the encoder.

Copied into them, beside the encoder's code; needs torch and safetensors.

SPDX-License-Identifier: Apache-2.0
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .modeling_echofm import EchoFM, EchoFMConfig, refuse_changed, require

FORMAT = 1  # of the folder; a reader refuses newer ones
APEX = "echoapex", "dinov2", "dinov2_with_registers"  # model_type of a head's folder, an encoder's


def backbone(described: Mapping) -> tuple[type[nn.Module], type]:
    """(model, its config's class) that a config.json is of, an encoder's or a head's."""
    if described.get("model_type") in APEX:
        from .modeling_echoapex import EchoApex, EchoApexConfig  # no folder of EchoFM's has it

        return EchoApex, EchoApexConfig
    return EchoFM, EchoFMConfig


def load_encoder(folder: Path, **how: object) -> nn.Module:
    """The encoder of an exported folder, by what its config.json is of.

    `how` and what it raises: see `EchoFM.from_pretrained`.
    """
    try:
        described = dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError, TypeError):
        described = {}  # what is wrong with it is told below
    return backbone(described)[0].from_pretrained(folder, **how)


def load_model(kind: type, folder: Path, head: type, names: str) -> nn.Module:
    """The model of a trained folder; raises as `EchoFMHead.from_pretrained` says.

    Args:
      kind: made of an encoder and a head's config.
      head: the config's class, with the field `names`, a tuple.
    """
    described, weights = read_folder(folder)
    try:
        fields = described["head"]
        config = head(**fields | {names: tuple(fields[names])})
        window = described["preprocessing"]["window_seconds"]
        network, architecture = backbone(described)
        encoder = architecture(**described["architecture"], window_seconds=window)
        with torch.device("meta"):  # no memory, no initialisation: the file has every value
            model = kind(network(encoder), config)
        model.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:400]
        raise ValueError(f"{folder}: holds no {kind.__name__}: {reason}") from error
    return model.eval()


def read_folder(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """(config.json, weights) of a head's folder; raises as `from_pretrained` says."""
    config_file, weights_file = folder / "config.json", folder / "model.safetensors"
    require(config_file, weights_file)
    try:
        described = json.loads(config_file.read_text())
        version = int(described["head_format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{config_file}: not that of a head; is it an encoder's?") from error
    if version > FORMAT:
        raise ValueError(f"{config_file}: of a newer echofm_jax than this one; install that")
    if not refuse_changed(weights_file):
        raise ValueError(f"{config_file}: holds no SHA-256 of its weights; copy the folder again")
    try:
        return described, load_file(weights_file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights_file}: truncated or damaged ({error})") from error


class Adapter(nn.Module):
    """A feed-forward layer with a narrow one beside it (AdaptFormer, arXiv 2205.13535)."""

    def __init__(self, mlp: nn.Module, width: int, adapter: int):
        super().__init__()
        self.mlp = mlp
        self.down = nn.Linear(width, adapter)
        self.up = nn.Linear(adapter, width)
        nn.init.zeros_(self.up.weight)  # at first nothing is added
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        return self.mlp(x) + self.up(F.relu(self.down(x)))


def add_adapters(encoder: nn.Module, adapter: int) -> None:
    """One of width `adapter` in every block; 0: none."""
    if adapter:
        for block in encoder.blocks:
            block.mlp = Adapter(block.mlp, encoder.config.width, adapter)


class Prompted(nn.Module):
    """A block that sees learned tokens beside its own (VPT-Deep, arXiv 2203.12119)."""

    def __init__(self, block: nn.Module, width: int, prompts: int):
        super().__init__()
        self.block = block
        self.prompts = nn.Parameter(0.02 * torch.randn(1, prompts, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, N, D]."""
        x = torch.cat([x, self.prompts.to(x.dtype).expand(len(x), -1, -1)], 1)  # [B, N+prompts, D]
        return self.block(x)[:, : -self.prompts.shape[1]]


def add_prompts(encoder: nn.Module, prompts: int) -> None:
    """So many to every block; 0: none."""
    if prompts:
        width = encoder.config.width
        blocks = (Prompted(block, width, prompts) for block in encoder.blocks)
        encoder.blocks = nn.ModuleList(blocks)
