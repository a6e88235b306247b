"""Tiny random Dinov2 models, as transformers itself saves them."""

from pathlib import Path

import torch

SIZES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 28,
    "patch_size": 14, "mlp_ratio": 2,
}  # fmt: skip


def write(folder: Path, registers: int = 0, *, swiglu: bool = False, **sizes) -> torch.nn.Module:
    """Save one in `folder`; returns transformers' model. No parameter is 0 or 1."""
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    fields = SIZES | sizes | {"use_swiglu_ffn": swiglu}
    torch.manual_seed(0)
    if registers:
        fields["num_register_tokens"] = registers
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**fields))
    else:
        model = Dinov2Model(Dinov2Config(**fields))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    return model
