"""Pure PyTorch: never imports JAX. `modeling_*.py` may be copied: they need nothing of ours."""

from echofm_jax.pytorch.embed_recordings import Embedded, embed
from echofm_jax.pytorch.head_echofm import EchoFMHead
from echofm_jax.pytorch.hypertrophy_head import EchoFMHypertrophy
from echofm_jax.pytorch.interactive_head import EchoFMInteractive
from echofm_jax.pytorch.modeling_echoapex import EchoApex, EchoApexConfig
from echofm_jax.pytorch.modeling_echofm import (
    EchoFM,
    EchoFMConfig,
    Features,
    Reconstruction,
    load_program,
)
from echofm_jax.pytorch.segmentation_head import EchoFMSegmenter

__all__ = [
    "EchoApex",
    "EchoApexConfig",
    "EchoFM",
    "EchoFMConfig",
    "EchoFMHead",
    "EchoFMHypertrophy",
    "EchoFMInteractive",
    "EchoFMSegmenter",
    "Embedded",
    "Features",
    "Reconstruction",
    "embed",
    "load_program",
]
