"""ViT-g, patch 14, MLP 6144: 8 × 256 tokens a clip.

    echofm train --config=configs/vit_g.py --workdir=runs/vit_g --config.data.dir=DATA

1,065 M parameters (encoder 1,014 M, projector 25.3 M, decoder 26.4 M);
a step costs 3.81 TFLOP a clip (counted, recomputation excluded).
Recipe: 200 epochs, 10 of warm-up, learning rate 1e-3 × batch / 256, AdamW (0.9, 0.95), decay 0.05,
gradient norm clipped at 0.02, 75 % of the positions masked in every step alike.
Batch 256, 4 clips a chip on 64 chips of v5e (8x8), parameters and optimizer state over 8 of them
(`mesh.fsdp`): the paper's 290,000 clips take 14 h at 35 % MFU and 32 h at 15 % – computed from the
FLOPs and 197 TFLOP/s a chip, not measured. For other hardware set data.batch_size and mesh;
the learning rate follows the batch.

`:official` (default) is the public implementation's objective: pixel prior and cycle distillation.
`:paper` is the paper's equations: the embedding is its own prior, no distillation.
No full-corpus run of this config has been made yet, so there is no score to expect.
"""

from ml_collections import ConfigDict

from echofm_jax.config import default_config


def get_config(variant: str = "official") -> ConfigDict:
    """`official` (default) or `paper`."""
    config = default_config("vit_g", variant)
    config.model.dtype = "bfloat16"
    config.mesh.update(preset="fsdp", fsdp=8)
    return config
