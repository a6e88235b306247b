"""As echoapex_vitb.py, where all is said, with ViT-L/14.

echofm train --config=configs/echoapex_vitl.py --workdir=runs/echoapex_l --config.data.dir=DATA
"""

from ml_collections import ConfigDict

from echofm_jax.config import image_config


def get_config(variant: str = "same_frame") -> ConfigDict:
    """`same_frame` (default) or `other_frame`."""
    config = image_config("vit_l", variant)
    config.model.dtype = "bfloat16"
    return config
