"""What every config starts from: the recipe of a paper, for a model preset."""

import dataclasses

from ml_collections import ConfigDict

from data_pipelines.augment import NONE
from echofm_jax.architecture import Architecture
from echofm_jax.config_file import pick
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.objectives.dinov2 import DINOv2Objective
from echofm_jax.objectives.echofm import EchoFMObjective

MODELS = {
    "vit_s": {"width": 384, "depth": 12, "heads": 6,
              "decoder_width": 192, "decoder_depth": 4, "decoder_heads": 6},
    "vit_b": {"width": 768, "depth": 12, "heads": 12},
    "vit_l": {"width": 1024, "depth": 24, "heads": 16},
    "vit_h": {"width": 1280, "depth": 32, "heads": 16, "patch": 14},
    "vit_g": {"width": 1408, "depth": 40, "heads": 16, "patch": 14,
              "mlp_ratio": 6144 / 1408, "decoder_mlp_ratio": 4.0},
    "vit_e": {"width": 1792, "depth": 56, "heads": 16, "patch": 14,
              "mlp_ratio": 15360 / 1792, "decoder_mlp_ratio": 4.0},
}  # fmt: skip
IMAGE_MODELS = {
    "vit_s": {"width": 384, "depth": 12, "heads": 6},
    "vit_b": {"width": 768, "depth": 12, "heads": 12},
    "vit_l": {"width": 1024, "depth": 24, "heads": 16},
    "vit_g": {"width": 1536, "depth": 40, "heads": 24, "ffn": "swiglu"},
}
IMAGE_VARIANTS = {"same_frame": {}, "other_frame": {"other_frame": True}}
OBJECTIVES = {
    "official": {},  # pixel prior and distillation: the public implementation
    "paper": {"prior": "embedding", "cycle_weight": 0.0},  # the paper's equations
    "plus": {"embedding_alpha": 1.0, "cycle_gate": 0.5, "min_positive_lag": 2},  # docs/results.md
}


def default_config(model: str, variant: str) -> ConfigDict:
    """The recipe of the paper for a model preset and an objective preset (`paper`, `official`)."""
    return ConfigDict({
        "seed": 0,
        "method": "echofm",  # of objectives.METHODS
        "model": dataclasses.asdict(Architecture(**pick(MODELS, model, "model"))),
        "objective": dataclasses.asdict(EchoFMObjective(**pick(OBJECTIVES, variant, "variant"))),
        "data": {
            "dir": "",  # what `echofm ingest --data_dir` wrote, or a mixture of them (a JSON file)
            "cache_dir": "",  # a folder on a local disk for copies of the shards
            "batch_size": 256,  # clips per update, over all devices
            "window_seconds": 0.0,  # 0: consecutive frames, as the paper
            "assumed_fps": 30.0,  # for clips whose rate is unknown
            "windows_per_record": 1,  # clips from each reading of a record, together in a batch
            "augment": dataclasses.asdict(NONE),  # none, as the paper
            "max_bad_records": 1e-3,  # share of an epoch that may be unreadable; 0: none
            "workers": 0,  # decoding threads; 0: one a core, at most 8
        },
        "optim": {
            "blr": 1e-3,  # learning rate = blr * batch_size / 256, or as `scaling` says
            "scaling": "linear",  # `sqrt`: blr * sqrt(batch_size / 1024)
            "min_lr": 0.0,
            "epochs": 200.0,
            "warmup_epochs": 10.0,
            "steps": 0,  # > 0: that many updates, warm-up in the same proportion
            "b2": 0.95,  # of Adam
            "weight_decay": 0.05,
            "weight_decay_growth": 1.0,  # in the end it is so many times as large; along a cosine
            "clip_norm": 0.02,
            "accumulate": 1,  # microbatches per update
            "ema": 0.0,  # decay of the parameters' moving average; 0: none is kept
            "moments_dtype": "float32",  # of Adam's moments at rest
            "reduce_dtype": "float32",  # in which gradients cross chips
        },
        "mesh": {  # slice × data × fsdp × tensor; data takes the devices that the others leave
            "preset": "dp",
            "slices": 1,  # TPU slices
            "fsdp": 1,  # devices that share the parameters
            "tensor": 1,  # devices that share a layer
        },
        "train": {
            "log_every": 10,
            "checkpoint_every": 500,  # steps
            "keep": 3,  # checkpoints
            "evaluate_every": 500,  # steps, on held-out clips; 0: never
            "evaluate_batches": 8,  # the same ones each time
            "max_bad_steps": 10,  # non-finite steps in a row before the run stops
            "watchdog": 10.0,  # times the median step until all stacks are shown; 0: never
        },
    })  # fmt: skip


DEFAULTS = {  # method → any of its configs
    "echofm": lambda: default_config("vit_l", "official"),
    "dinov2": lambda: image_config("vit_l"),
}


def image_config(model: str, variant: str = "same_frame") -> ConfigDict:
    """DINOv2's recipe for ViT-L on a small corpus, for an image backbone preset: EchoApex's method.

    `variant`: `other_frame` takes the second global crop and half of the local ones from another
    frame. An image stands for a clip wherever clips are counted. Runs take 125,000 steps, as there.
    """
    config = default_config("vit_l", "official").to_dict()
    arch = ImageArchitecture(**pick(IMAGE_MODELS, model, "model"), drop_path=0.3)
    config |= {
        "method": "dinov2",
        "model": dataclasses.asdict(arch),
        "objective": dataclasses.asdict(
            DINOv2Objective(**pick(IMAGE_VARIANTS, variant, "variant"))
        ),
    }
    for unused in ("window_seconds", "assumed_fps", "augment"):
        del config["data"][unused]
    config["data"] |= {"batch_size": 1024, "windows_per_record": 1}  # frames of each reading
    config["optim"] |= {
        "blr": 4e-3, "scaling": "sqrt", "min_lr": 1e-6, "epochs": 100.0, "warmup_epochs": 10.0,
        "steps": 125_000, "b2": 0.999, "weight_decay": 0.04, "weight_decay_growth": 10.0,
        "clip_norm": 3.0,
    }  # fmt: skip
    return ConfigDict(config)
