"""A small EchoApex that learns something in minutes on two CPU cores.

echofm train --config=configs/echoapex_smoke.py --workdir=runs/apex --config.data.dir=DATA
"""

from ml_collections import ConfigDict

from echofm_jax.config import image_config


def get_config() -> ConfigDict:
    """ViT of smoke.py's encoder size on crops of 112 and 48 pixels."""
    config = image_config("vit_s")
    config.model.update(size=112, patch=16, width=192, depth=4, heads=3, drop_path=0.0)
    config.objective.update(
        local_size=48, local_crops=4, prototypes=512, hidden=256, bottleneck=64,
        global_scale=(0.5, 1.0), layer_decay=1.0,
    )  # fmt: skip
    config.data.update(batch_size=16)
    config.optim.update(steps=600, blr=0.016, clip_norm=3.0)
    config.train.update(checkpoint_every=50, evaluate_every=100)
    return config
