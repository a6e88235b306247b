"""The public objective, `plus`, and configs/echofm_plus.py's, which also masks inside the sector.

    echofm sweep configs/sweeps/defaults.py --workdir=runs/defaults --config.data.dir=DATA --jobs=2
    echofm report runs/defaults --baseline=official

Eighteen runs of configs/smoke.py, six seeds each.
"""

from echofm_jax.config import OBJECTIVES
from echofm_jax.sweep_file import Sweep

PLUS = {f"objective.{field}": value for field, value in OBJECTIVES["plus"].items()}


def get_sweep() -> Sweep:
    """Objective × seed."""
    return Sweep(
        config="configs/smoke.py:official",
        settings={
            "official": {},
            "plus": PLUS,
            "echofm_plus": PLUS | {"objective.masking": "sector"},
        },
        seeds=[0, 1, 2, 3, 4, 5],
    )
