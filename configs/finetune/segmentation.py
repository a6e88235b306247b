"""Left ventricle, myocardium and left atrium, on CAMUS; the left ventricle on EchoNet-Dynamic.

    echofm finetune --model MODEL --task segmentation --dataset camus --source CAMUS \\
        --workdir runs/camus --config=configs/finetune/segmentation.py
    echofm finetune --model MODEL --task segmentation --dataset echonet_dynamic \\
        --source EchoNet-Dynamic --workdir runs/lv --config=configs/finetune/segmentation.py:long

The owners' splits are used. Traced frames alone (end-diastole, end-systole) are trained and scored
on; each is seen within a window of its clip. figures/ has overlays and a clip that beats, outlined.
What others report: Dice of the left ventricle 0.92 on EchoNet-Dynamic (Nature 580:252, 2020,
abstract).

Variants:
- `frozen`: the decoder alone learns.
- `full` (default): decoder and encoder; the encoder ten times more slowly.
- `adapter`: a narrow layer beside each feed-forward one learns, and the decoder.
- `long`: `full` over 50 epochs.
- `image`: `full` for EchoApex, which sees each frame alone: the labelled frame, without reading
  those around it, which are not encoded anyway.

Where the numbers come from:
- `long`, 50 epochs, batch 20: EchoNet-Dynamic's segmentation, github.com/echonet/dynamic
  echonet/utils/segmentation.py (its rate, 1e-5 with SGD, is for another optimizer and network).
- weight decay 0.05, layer decay 0.75: MAE's ViT-L, github.com/facebookresearch/mae FINETUNE.md.
- adapters 64 wide, parallel, scaled from nothing: AdaptFormer, arXiv 2205.13535; 64 is what
  public code that builds on it has as default (`--ffn_num`).
- image: one frame, otherwise `full`: our choice.
- rate 2e-3 for the decoder, a tenth of it for the encoder, 10 epochs, batch 8, no early stop: our
  choice, the task's own defaults (echofm_jax/pytorch/recipe.py). EchoFM's paper (arXiv
  2410.23413) segments left ventricle and atrium, too; we could not read its settings.
Nobody has run this file on real data yet. Each variant was run for an epoch on simulated clips, to
see that it runs, but `image`: that was run in tests alone.
"""

from ml_collections import ConfigDict

from echofm_jax.config_file import pick
from echofm_jax.pytorch.recipe import default_recipe

DECODER = {"epochs": 10, "patience": 0, "batch": 8, "lr": 2e-3}
FULL = DECODER | {"mode": "full", "weight_decay": 0.05, "layer_decay": 0.75}
VARIANTS = {
    "frozen": DECODER,
    "full": FULL,
    "adapter": DECODER | {"mode": "adapter", "adapter": 64},
    "image": FULL | {"frames": 1},
    "long": FULL | {"epochs": 50, "batch": 20},
}


def get_config(variant: str = "full") -> ConfigDict:
    """`frozen`, `full` (default), `adapter`, `image` or `long`."""
    return default_recipe(**pick(VARIANTS, variant, "variant"))
