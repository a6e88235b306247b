"""Outlines by clicks, a box or a mask: on CAMUS, on EchoNet-Dynamic's tracings, on your own labels.

    echofm finetune --model MODEL --task interactive_segmentation --dataset camus --source CAMUS \\
        --workdir runs/clicks --config=configs/finetune/interactive_segmentation.py
    echofm finetune --model MODEL --task interactive_segmentation --dataset camus --source CAMUS \\
        --workdir runs/no_la --leave_out LA \\
        --config=configs/finetune/interactive_segmentation.py
    echofm finetune --model MODEL --task interactive_segmentation --dataset echonet_dynamic \\
        --source EchoNet-Dynamic --workdir runs/lv_clicks \\
        --config=configs/finetune/interactive_segmentation.py:long

Where a segmenter answers for the structures that it learned, this one outlines what it is shown:
`--leave_out` trains without one and says how well it is outlined all the same. Clicks are simulated
on the error of the answer before. Read Dice after one click beside its chance, a disc around the
click: on round chambers that is high.

Variants:
- `frozen` (default): the decoder alone learns; the encoder runs once a frame.
- `full`: the encoder, too, ten times more slowly.
- `adapter`: a narrow layer beside each feed-forward one learns, and the decoder.
- `long`: `full` over 50 epochs.

Where the numbers come from:
- clicks at the error's point farthest from its border, boxes moved by a tenth of their sides, the
  answer before as a prompt: SAM, arXiv 2304.02643, and RITM, arXiv 2102.06583. SAM answers eleven
  times for a sample; four (echofm_jax/pytorch/interactive.py) are our choice, for time.
- weight decay 0.05, layer decay 0.75: MAE's ViT-L, github.com/facebookresearch/mae FINETUNE.md.
- rate 1e-3 for the decoder, a tenth of it for the encoder, 10 epochs, batch 8, no early stop: our
  choice, the task's own defaults (echofm_jax/pytorch/recipe.py). EchoApex (arXiv 2410.11092)
  segments by prompts, too; its settings are not public.
Nobody has run this file on real data yet. `frozen` was run to its end on 236 simulated clips, on an
encoder of 300 updates: mean Dice over five structures 0.80, 0.86 and 0.87 after 1, 3 and 5 clicks
(disc around the click: 0.65), 0.81 from a box (ellipse in it: 0.76, and better on the round LV and
LA); validation rose to the last epoch: try more. What the others train was run in tests alone, on
miniatures.
"""

from ml_collections import ConfigDict

from echofm_jax.config_file import pick
from echofm_jax.pytorch.recipe import default_recipe

DECODER = {"epochs": 10, "patience": 0, "batch": 8, "lr": 1e-3}
FULL = DECODER | {"mode": "full", "weight_decay": 0.05, "layer_decay": 0.75}
VARIANTS = {
    "frozen": DECODER,
    "full": FULL,
    "adapter": DECODER | {"mode": "adapter", "adapter": 64},
    "long": FULL | {"epochs": 50},
}


def get_config(variant: str = "frozen") -> ConfigDict:
    """`frozen` (default), `full`, `adapter` or `long`."""
    return default_recipe(**pick(VARIANTS, variant, "variant"))
