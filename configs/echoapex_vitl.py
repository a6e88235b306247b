"""As echoapex_vitb.py, where all is said, with ViT-L/14.

    echofm train --config=configs/echoapex_vitl.py --workdir=runs/echoapex_l --config.data.dir=DATA

327 M parameters (backbone 303 M, head 23.7 M), 2.05 TFLOP an image: on 64 chips of v5e 17 h at
35 % MFU and 39 h at 15 %, computed.
"""

from ml_collections import ConfigDict

from echofm_jax.config import image_config


def get_config(variant: str = "same_frame") -> ConfigDict:
    """`same_frame` (default) or `other_frame`."""
    config = image_config("vit_l", variant)
    config.model.dtype = "bfloat16"
    return config
