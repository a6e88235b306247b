"""Septum, cavity and posterior wall in parasternal long axes, and hypertrophy, on EchoNet-LVH.

    echofm finetune --model MODEL --task hypertrophy --dataset echonet_lvh --source EchoNet-LVH \\
        --workdir runs/lvh --config=configs/finetune/hypertrophy.py

The owner's split is used. Its rows tell both ends of every measurement in pixels and its length in
cm, so what a pixel is. Clips of your own need a labels.jsonl with `points`; where their files do
not say how large a pixel is (DICOM does), lengths are in pixels and hypertrophy is not told.
Simulated ones: `echofm phantom --output walls --views PLAX --hypertrophy 0.35`, then `--source
walls`. What others report for EchoNet-LVH: mean absolute errors of 1.4 mm for the septum, 2.4 mm
for the cavity and 1.2 mm for the posterior wall (arXiv 2106.12511, abstract). `chance` in
metrics.json is the error of who always answers the training set's means.

Variants:
- `frozen`: the decoder alone learns.
- `full` (default): decoder and encoder; the encoder ten times more slowly.
- `adapter`: a narrow layer beside each feed-forward one learns, and the decoder.
- `long`: `full` over 50 epochs.

Where the numbers come from:
- as for segmentation, whose decoder it is (configs/finetune/segmentation.py): rate 2e-3, encoder a
  tenth, 10 epochs, batch 8, no early stop, adapters 64 wide, weight decay 0.05, layer decay 0.75.
- a blob of a 56th of the side stands for a landmark, its divergence is the loss (arXiv
  1801.07372); 56: our choice.
- a wall of 11 mm is thick: more than the 10 mm (men) and 9 mm (women) up to which it is normal by
  ASE and EACVI (J Am Soc Echocardiogr 28:1, 2015).
Nobody has run this file on real data yet. `frozen`, 6 epochs of it, was measured on simulated clips
(docs/results.md); each variant was run for an epoch on a small copy of EchoNet-LVH, simulated, too.
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
    "long": FULL | {"epochs": 50},
}


def get_config(variant: str = "full") -> ConfigDict:
    """`frozen`, `full` (default), `adapter` or `long`."""
    return default_recipe(**pick(VARIANTS, variant, "variant"))
