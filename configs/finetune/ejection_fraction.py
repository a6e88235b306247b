"""Ejection fraction in percent, on EchoNet-Dynamic.

    echofm finetune --model MODEL --task ejection_fraction --dataset echonet_dynamic \\
        --source EchoNet-Dynamic --workdir runs/ef --config=configs/finetune/ejection_fraction.py

Its own split (FileList.csv) is used. EchoNet-Pediatric (`--dataset echonet_pediatric`), CAMUS and a
table with a column ejection_fraction work as well. Of the 10,030 clips those of the training set go
through the whole encoder 30 times: that takes a GPU (`:frozen` and `:temporal` take one pass). What
others report for the test set: a mean absolute error of 4.1 % (EchoNet-Dynamic, Nature 580:252,
2020, abstract).
`chance` in metrics.json is the error of who always answers the training set's mean.

Variants:
- `frozen`: ridge regression on the frozen encoder; its strength is chosen over patients.
- `temporal`: a small transformer over the steps of a recording, in their order, on the frozen
  encoder. EchoApex sees each frame alone: there nothing else tells an order. Give it more frames,
  `--config.frames=32`: of its window of a second that is 32 a second, and two windows a recording.
- `lora`: queries and values learn low-rank updates.
- `prompt`: learned tokens in every block.
- `full` (default): everything learns, as in the two works below.

Where the numbers come from:
- full: 30 epochs, patience 10, batch 16: PanEcho's fine-tuning on this set, github.com/CarDS-Yale/
  PanEcho src/train_echonetdynamic.py, defaults. EchoNet-Dynamic itself: 45 epochs, batch 20, SGD
  (github.com/echonet/dynamic echonet/utils/video.py). Both lower the squared error, as this does.
- rate 1e-3 by 256 clips, weight decay 0.05, layer decay 0.75, as MAE's ViT-L:
  github.com/facebookresearch/mae FINETUNE.md. At batch 16 that is 6.25e-5; PanEcho's is 1e-4,
  without layer decay.
- the linear head is fitted first, so that the encoder is not spoilt by a head that knows nothing:
  arXiv 2202.10054.
- lora: queries and values as in arXiv 2106.09685; rank 8, rate 5e-4: our choice.
- prompt: tokens in every block as in arXiv 2203.12119 (VPT-Deep); 10 of them, rate 5e-4: our
  choice (at 5e-3 they lost, on simulated clips, all that the head had been fitted to).
- temporal: two layers, 256 wide, 50 epochs, rate 5e-4: our choice. EchoApex (arXiv 2410.11092) has
  a spatio-temporal decoder for this task; nothing public tells its settings, and this is not it.
- the window is the model's. EchoNet-Dynamic's is 32 frames, every other one of about 50 a second:
  1.3 s. A model of `data.window_seconds=1.0` sees about as much.
Nobody has run this file on real data yet. Each variant was run for an epoch on simulated clips, to
see that it runs, but `temporal` and `prompt`: those were run in tests alone.
"""

from ml_collections import ConfigDict

from echofm_jax.config_file import pick
from echofm_jax.pytorch.recipe import default_recipe

VARIANTS = {
    "frozen": {},
    "temporal": {"head": "temporal", "epochs": 50, "patience": 10, "batch": 16, "lr": 5e-4},
    "lora": {"mode": "lora", "rank": 8, "epochs": 30, "patience": 10, "batch": 16, "lr": 5e-4},
    "prompt": {
        "mode": "prompt", "prompts": 10, "epochs": 30, "patience": 10, "batch": 16, "lr": 5e-4,
    },
    "full": {
        "mode": "full", "epochs": 30, "patience": 10, "batch": 16, "lr": 1e-3 * 16 / 256,
        "weight_decay": 0.05, "layer_decay": 0.75,
    },
}  # fmt: skip


def get_config(variant: str = "full") -> ConfigDict:
    """`frozen`, `temporal`, `lora`, `prompt` or `full` (default)."""
    return default_recipe(**pick(VARIANTS, variant, "variant"))
