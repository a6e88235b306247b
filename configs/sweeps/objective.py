"""What makes the periodic contrast learn: the public objective, the paper's, parts of them, ours.

    echofm sweep configs/sweeps/objective.py --workdir=runs/objective --config.data.dir=DATA
    echofm report runs/objective --baseline=official

Twenty-four runs of configs/smoke.py. `random_mae` hides tubelets anywhere and has no contrast at
all: a plain video masked autoencoder. `plus` is ours (configs/echofm_plus.py), `official+…` are
its parts, one at a time.
"""

from echofm_jax.config import OBJECTIVES
from echofm_jax.sweep_file import Sweep

NO_CONTRAST = {"objective.triplet_weight": 0.0, "objective.cycle_weight": 0.0}
PAPER, PLUS = (
    {f"objective.{field}": value for field, value in OBJECTIVES[name].items()}
    for name in ("paper", "plus")
)


def get_sweep() -> Sweep:
    """Objective × seed."""
    return Sweep(
        config="configs/smoke.py:official",
        settings={
            "official": {},
            "paper": PAPER,
            "no_contrast": NO_CONTRAST,
            "random_mae": NO_CONTRAST | {"objective.masking": "random"},
            "plus": PLUS,
        }
        | {f"official+{field.partition('.')[2]}": {field: value} for field, value in PLUS.items()},
        seeds=[0, 1, 2],
    )
