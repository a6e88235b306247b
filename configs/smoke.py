"""A small EchoFM that learns something in minutes on two CPU cores.

echofm train --config=configs/smoke.py --workdir=runs/smoke --config.data.dir=DATA
"""

from ml_collections import ConfigDict

from echofm_jax.config import default_config


def get_config(variant: str = "official") -> ConfigDict:
    """`official` (default), `paper` or `plus`."""
    config = default_config("vit_s", variant)
    config.model.update(
        size=112, width=192, depth=4, heads=3, decoder_width=96, decoder_depth=2, decoder_heads=3
    )
    config.data.update(batch_size=8, window_seconds=1.0)
    config.optim.update(steps=300, blr=0.032, clip_norm=1.0)
    config.train.update(checkpoint_every=25, evaluate_every=100)
    return config
