"""What makes the periodic contrast learn: the public objective, the paper's, none, ours.

    echofm sweep configs/sweeps/objective.py --workdir=runs/objective --config.data.dir=DATA
    echofm report runs/objective --baseline=official

Eighteen runs of configs/smoke.py. `random_mae` hides tubelets anywhere and has no contrast at all:
a plain video masked autoencoder. `plus` is ours (configs/echofm_plus.py); of it, `centred` only
compares frame embeddings without their mean (gate.py has the other parts).
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
            "centred": {"objective.embedding_alpha": 1.0},
            "plus": PLUS,
        },
        seeds=[0, 1, 2],
    )
