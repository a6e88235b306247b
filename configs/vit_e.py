"""ViT-e class, patch 14, MLP 15360: 8 × 256 tokens a clip.

    echofm train --config=configs/vit_e.py --workdir=runs/vit_e --config.data.dir=DATA

3,903 M parameters (encoder 3,809 M, projector 67.9 M, decoder 26.6 M);
a step costs 12.6 TFLOP a clip (counted, recomputation excluded).
Recipe: 200 epochs, 10 of warm-up, learning rate 1e-3 × batch / 256, AdamW (0.9, 0.95), decay 0.05,
gradient norm clipped at 0.02, 75 % of the positions masked in every step alike.
Batch 1024, 4 clips a chip on 256 chips of v5e (16x16), parameters and optimizer state over 16 of
them (`mesh.fsdp`): the paper's 290,000 clips take 11 h at 35 % MFU and 27 h at 15 % – computed from
the FLOPs and 197 TFLOP/s a chip, not measured. For other hardware set data.batch_size and mesh;
the learning rate follows the batch.

`:official` (default) is the public implementation's objective: pixel prior and cycle distillation.
`:paper` is the paper's equations: the embedding is its own prior, no distillation.
No full-corpus run of this config has been made yet, so there is no score to expect.
"""

from ml_collections import ConfigDict

from echofm_jax.config import default_config


def get_config(variant: str = "official") -> ConfigDict:
    """`official` (default) or `paper`."""
    config = default_config("vit_e", variant)
    config.model.dtype = "bfloat16"
    config.data.batch_size = 1024
    config.mesh.update(preset="fsdp", fsdp=16)
    return config
