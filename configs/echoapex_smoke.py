"""A small EchoApex, trained in minutes on two CPU cores: it shows that all runs.

    echofm train --config=configs/echoapex_smoke.py --workdir=runs/apex --config.data.dir=DATA

DINOv2 begins at a plateau where every prototype is as likely as any other, and its own recipe needs
far more images than these minutes hold to leave it. Here the crops of an image are nearer to one
another, the prototypes fewer and the teacher faster, and no residual branch starts at nothing: its
losses fall. On simulated hearts its features are no better than untrained ones (docs/results.md).
"""

from ml_collections import ConfigDict

from echofm_jax.config import image_config


def get_config(variant: str = "same_frame") -> ConfigDict:
    """`same_frame` (default) or `other_frame`; smoke.py's encoder on crops of 112 and 48 pixels."""
    config = image_config("vit_s", variant)
    config.model.update(
        size=112, patch=16, width=192, depth=4, heads=3, drop_path=0.0, layer_scale=1.0
    )
    config.objective.update(
        local_size=48, local_crops=2, prototypes=128, hidden=256, bottleneck=64, momentum=0.9,
        teacher_temp=0.04, layer_decay=1.0, global_scale=(0.7, 1.0), local_scale=(0.4, 0.8),
        gain=0.1, gamma=0.1, blur=0.0, speckle=0.0,
    )  # fmt: skip
    config.data.update(batch_size=16)
    config.optim.update(steps=600, blr=0.008, weight_decay_growth=1.0)
    config.train.update(checkpoint_every=50, evaluate_every=100)
    return config
