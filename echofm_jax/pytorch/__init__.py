"""Pure PyTorch: never imports JAX. `modeling_echofm.py` is also copied into exported folders."""

from echofm_jax.pytorch.embed_recordings import Embedded, embed
from echofm_jax.pytorch.head_echofm import EchoFMHead
from echofm_jax.pytorch.modeling_echofm import (
    EchoFM,
    EchoFMConfig,
    Features,
    Reconstruction,
    load_program,
)
from echofm_jax.pytorch.segmentation_head import EchoFMSegmenter

__all__ = [
    "EchoFM",
    "EchoFMConfig",
    "EchoFMHead",
    "EchoFMSegmenter",
    "Embedded",
    "Features",
    "Reconstruction",
    "embed",
    "load_program",
]
