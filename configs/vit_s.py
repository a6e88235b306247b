"""ViT-S, 32 frames of 224×224: the smallest full-resolution model, for one GPU or TPU host.

    echofm train --config=configs/vit_s.py --workdir=runs/vit_s --config.data.dir=DATA

26 M parameters (encoder 22.6 M, projector 1.8 M, decoder 2.0 M);
a step costs 98.6 GFLOP a clip (counted, recomputation excluded).
Recipe: 200 epochs, 10 of warm-up, learning rate 1e-3 × batch / 256, AdamW (0.9, 0.95), decay 0.05,
gradient norm clipped at 0.02, 75 % of the positions masked in every step alike.
Batch 256, 4 clips a chip on 64 chips of v5e: the paper's 290,000 clips take 0.36 h at 35 % MFU
and 0.84 h at 15 % – computed from the FLOPs and 197 TFLOP/s a chip, not measured. For other
hardware set data.batch_size; the learning rate follows it.

`:official` (default) is the public implementation's objective: pixel prior and cycle distillation.
`:paper` is the paper's equations: the embedding is its own prior, no distillation.
No full-corpus run of this config has been made yet, so there is no score to expect.
"""

from ml_collections import ConfigDict

from echofm_jax.config import default_config


def get_config(variant: str = "official") -> ConfigDict:
    """`official` (default) or `paper`."""
    config = default_config("vit_s", variant)
    config.model.dtype = "bfloat16"
    return config
