"""Aortic stenosis (none, early, significant) of a whole examination, on TMED-2.

    echofm finetune --model MODEL --task aortic_stenosis --dataset tmed2 --source TMED2 \\
        --views PLAX PSAX --workdir runs/as --config=configs/finetune/aortic_stenosis.py

`--dataset tmed2` reads what Tufts hands out (DEV479, the split of fold 0; five grades become three,
as the owners' own work has them). Its pictures are stills: a window repeats one, so motion tells
nothing here. `--views PLAX PSAX` keeps the views that show the valve; without it all pictures of an
examination vote, which is slower, and those without a view label are in. Clips of your own need a
table with columns file, patient, study and aortic_stenosis, and `--folds 5` where patients are few.

One answer an examination: its clips are weighed by attention (Ilse et al. 2018, arXiv 1802.04712);
grades are ordered, told apart by thresholds on one score.

Variants:
- `frozen` (default): the encoder is fixed, the head and its attention learn.
- `lora`: the encoder learns low-rank updates as well.

Where the numbers come from:
- that relevant views should count most, and that diagnosis is of a patient, not of a picture: Huang
  et al. 2021, A New Semi-supervised Learning Benchmark for Classifying View and Diagnosing Aortic
  Stenosis from Echocardiograms, abstract. There the views' weights come from a view classifier;
  here attention learns them.
- classes weighed alike: their training weighs no, early and significant disease 0.542, 0.391 and
  0.067 (github.com/tufts-ml/tmed2-echocardiogram-classifiers, runs/image_level/DiagnosisClassifier/
  seed0/DEV479). Their other settings (300 epochs, rate 7e-4, weight decay 0.02, batch 120) train a
  small network from nothing and are not ours.
- 8 examinations a batch of 8 pictures each, 50 epochs, patience 15, rate 5e-4, dropout 0.1, weight
  decay 0.05, rank 8: our choice, for a few hundred examinations.
- EchoFM's paper (arXiv 2410.23413) grades stenosis, too; we could not read its settings.
Nobody has run this file on real data yet. Each variant was run for an epoch on simulated clips, to
see that it runs.
"""

from ml_collections import ConfigDict

from echofm_jax.config_file import pick
from echofm_jax.pytorch.recipe import default_recipe

STUDY = {"study": True, "clips_per_study": 8, "batch": 8, "epochs": 50, "patience": 15, "lr": 5e-4}
VARIANTS = {
    "frozen": STUDY,
    "lora": STUDY | {"mode": "lora", "rank": 8, "batch": 2},
}


def get_config(variant: str = "frozen") -> ConfigDict:
    """`frozen` (default) or `lora`."""
    return default_recipe(**pick(VARIANTS, variant, "variant"))
