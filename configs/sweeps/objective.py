"""What the periodic contrast brings: the public objective, the paper's, and parts of them.

    echofm sweep configs/sweeps/objective.py --workdir=runs/objective --config.data.dir=DATA
    echofm report runs/objective --baseline=official

Eighteen runs of configs/smoke.py. `random_mae` hides tubelets anywhere and has no contrast at all:
a plain video masked autoencoder.
"""

from echofm_jax.config import OBJECTIVES
from echofm_jax.sweep_file import Sweep

NO_CONTRAST = {"objective.triplet_weight": 0.0, "objective.cycle_weight": 0.0}


def get_sweep() -> Sweep:
    """Objective × seed."""
    return Sweep(
        config="configs/smoke.py:official",
        settings={
            "official": {},
            "paper": {f"objective.{field}": value for field, value in OBJECTIVES["paper"].items()},
            "no_cycle": {"objective.cycle_weight": 0.0},
            "no_triplet": {"objective.triplet_weight": 0.0},
            "no_contrast": NO_CONTRAST,
            "random_mae": NO_CONTRAST | {"objective.masking": "random"},
        },
        seeds=[0, 1, 2],
    )
