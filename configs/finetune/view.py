"""Which view does a clip show? On TMED-2, CAMUS or clips of your own.

    echofm finetune --model MODEL --task view --source CLIPS --workdir runs/view \\
        --config=configs/finetune/view.py --shares 0.01 0.1 1 --compare_random

CLIPS: a folder a view, CLIPS/A4C/PATIENT/FILE; or with `--labels views.csv` (columns file, patient,
view); or a data set of `echofm ingest`; or `--dataset tmed2` or `camus` with what its owners hand
out. No view labels come with EchoNet-Dynamic (all A4C) or MIMIC-IV-ECHO.

Variants, in the order in which to try them; each starts where the one before stops being enough:
- `frozen`: a linear head in closed form on a frozen encoder. Minutes, nothing to tune.
- `attentive` (default): attention over places, still frozen, by gradients.
- `prompt`: learned tokens in every block.
- `full`: everything learns.

Where the numbers come from:
- frozen encoder, attentive head, 20 epochs, lr 1e-4, weight decay 0.1, no warm-up: EchoJEPA's view
  probe, github.com/alif-munim/EchoJEPA configs/eval/vitb/icml/echojepa_b_view_d4.yaml, which tries
  lr 1e-4 and 5e-5, each with weight decay 0.01, 0.1 and 0.4. One attention layer of
  256 channels where theirs has four blocks: our choice, for few labels.
- full: 50 epochs, 5 of them warm-up, weight decay 0.05, layer decay 0.75, base rate 1e-3 by 256
  clips, label smoothing 0.1: MAE's ViT-L, github.com/facebookresearch/mae FINETUNE.md and the
  defaults of main_finetune.py; VideoMAE's defaults (MCG-NJU/VideoMAE, run_class_finetuning.py) are
  the same but for 30 epochs, or 50 and 5e-4 by 256 on SSv2 (FINETUNE.md). Their mixup, cutmix and
  RandAugment are left out: a mixture of views is none.
- prompt: tokens in every block as in arXiv 2203.12119 (VPT-Deep); 10 of them, 20 epochs, rate 5e-4,
  weight decay 0.05: our choice, also for EchoApex (arXiv 2410.11092), which tells 18 views by a
  linear decoder: none of its settings are public.
- the head is fitted in closed form before the encoder learns, where it is linear: arXiv 2202.10054.
- balanced classes, patience, batch: our choice. EchoFM's paper (arXiv 2410.23413) tells views, too;
  we could not read its fine-tuning settings, and none here claims to be them.
Nobody has run this file on real data yet. Each variant was run for an epoch on simulated clips, to
see that it runs, but `prompt`: that was run in tests alone.
"""

from ml_collections import ConfigDict

from echofm_jax.config_file import pick
from echofm_jax.pytorch.recipe import default_recipe

VARIANTS = {
    "frozen": {},
    "attentive": {
        "head": "attentive", "epochs": 20, "batch": 8, "lr": 1e-4, "weight_decay": 0.1,
        "warmup": 0.0,
    },
    "prompt": {"mode": "prompt", "prompts": 10, "epochs": 20, "batch": 16, "lr": 5e-4},
    "full": {
        "mode": "full", "epochs": 50, "batch": 16, "lr": 1e-3 * 16 / 256, "warmup": 0.1,
        "weight_decay": 0.05, "layer_decay": 0.75, "label_smoothing": 0.1,
    },
}  # fmt: skip


def get_config(variant: str = "attentive") -> ConfigDict:
    """`frozen`, `attentive` (default), `prompt` or `full`."""
    return default_recipe(**pick(VARIANTS, variant, "variant"))
