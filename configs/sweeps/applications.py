"""What pre-training is good for: EchoFM, EchoApex and untrained encoders under the same five heads.

    echofm phantom --output six --studies 170 --size 240 320 --seed 7
    echofm phantom --output apical --studies 170 --views A4C A2C --size 240 320 --seed 7
    echofm phantom --output data/walls --studies 120 --clips_per_study 1 --views PLAX \\
        --hypertrophy 0.35 --seed 11
    echofm ingest --source six --data_dir data/six --size 112 --split 60,15,25
    echofm ingest --source apical --data_dir data/apical --size 112 --split 60,15,25
    echofm sweep configs/sweeps/applications.py --workdir=runs/applications \\
        --config.data.dir=DATA --jobs=2
    echofm report runs/applications --baseline=official

The encoders take the same processor time: 300 updates of 16 images (EchoApex) or of 8 clips; the
untrained ones make one update at rate zero. Fifteen runs, three seeds of each.
"""

from echofm_jax.config import OBJECTIVES
from echofm_jax.sweep_file import Sweep

PLUS = {f"objective.{field}": value for field, value in OBJECTIVES["plus"].items()}
NOTHING = {"optim.steps": 1, "optim.blr": 0.0}
IMAGES = {"config": "configs/echoapex_smoke.py"}
OUTLINES = ("--source=data/apical", "--shares=0.3")


def get_sweep() -> Sweep:
    """Encoder × seed, and what each is used for."""
    return Sweep(
        config="configs/smoke.py:official",
        settings={
            "official": {},
            "echofm_plus": PLUS | {"objective.masking": "sector"},
            "echoapex": IMAGES | {"optim.steps": 300},
            "untrained_video": NOTHING,
            "untrained_image": IMAGES | NOTHING,
        },
        seeds=[0, 1, 2],
        heads={
            "view": ("--task=view", "--source=data/six", "--shares", "0.1", "1"),
            "ejection_fraction": (
                "--task=ejection_fraction", "--source=data/apical", "--shares", "0.1", "1",
            ),
            "segmentation": (
                "--task=segmentation", *OUTLINES, "--config.epochs=6", "--config.batch=2",
            ),
            "clicks": ("--task=interactive_segmentation", *OUTLINES, "--config.epochs=5"),
            "walls": ("--task=hypertrophy", "--source=data/walls", "--config.epochs=6"),
        },
    )  # fmt: skip
