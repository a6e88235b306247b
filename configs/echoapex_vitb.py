"""EchoApex's method with ViT-B/14: DINOv2 on single frames, of 224 pixels a side.

    echofm train --config=configs/echoapex_vitb.py --workdir=runs/echoapex --config.data.dir=DATA

EchoApex (arXiv 2410.11092) pre-trained by DINOv2 on 20 million frames of 450,338 videos; its code,
weights and hyperparameters are not public. These are DINOv2's own for a small corpus (its
ViT-L/16 recipe) at batch 1024, with Sinkhorn-Knopp in place of centring.
109 M parameters (backbone 85.7 M, head 23.1 M); a step costs 603 GFLOP an image (counted,
recomputation excluded). 125,000 steps, 16 images a chip on 64 chips of v5e, take 4.9 h at 35 % MFU
and 11 h at 15 % – computed from the FLOPs and 197 TFLOP/s a chip, not measured; one H200 did 435
images a second, which makes 82 h.
An image is a frame of a record, cut into 2 global crops of 224 pixels and 8 local ones of 98; it is
counted as a clip in rates and batches. Ingest frames of 256 pixels or more, so that crops
are not enlarged (`echofm ingest --size 256`).
Start from natural images with `echofm import`. `:other_frame` takes the second global
crop and half of the local ones from another moment of the same clip.
No full-corpus run of this config has been made yet, so there is no score to expect.
"""

from ml_collections import ConfigDict

from echofm_jax.config import image_config


def get_config(variant: str = "same_frame") -> ConfigDict:
    """`same_frame` (default) or `other_frame`."""
    config = image_config("vit_b", variant)
    config.model.dtype = "bfloat16"
    return config
