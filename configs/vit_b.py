"""ViT-B, 32 frames of 224×224.

    echofm train --config=configs/vit_b.py --workdir=runs/vit_b --config.data.dir=DATA

121 M parameters (encoder 87.6 M, projector 7.1 M, decoder 26.1 M);
a step costs 574 GFLOP a clip (counted, recomputation excluded).
Recipe: 200 epochs, 10 of warm-up, learning rate 1e-3 × batch / 256, AdamW (0.9, 0.95), decay 0.05,
gradient norm clipped at 0.02, 75 % of the positions masked in every step alike.
Batch 256, 4 clips a chip on 64 chips of v5e: the paper's 290,000 clips take 2.1 h at 35 % MFU
and 4.9 h at 15 % – computed from the FLOPs and 197 TFLOP/s a chip, not measured. For other
hardware set data.batch_size; the learning rate follows it.

`:official` (default) is the public implementation's objective: pixel prior and cycle distillation.
`:paper` is the paper's equations: the embedding is its own prior, no distillation.
No full-corpus run of this config has been made yet, so there is no score to expect.
"""

from ml_collections import ConfigDict

from echofm_jax.config import default_config


def get_config(variant: str = "official") -> ConfigDict:
    """`official` (default) or `paper`."""
    config = default_config("vit_b", variant)
    config.model.dtype = "bfloat16"
    return config
