"""How much to hide.

    echofm sweep configs/sweeps/mask_ratio.py --workdir=runs/mask_ratio --config.data.dir=DATA
    echofm report runs/mask_ratio --baseline=mask_ratio=0.75

Twelve runs of configs/smoke.py:plus; 0.75 is the paper's. The less is hidden, the more a step
costs.
"""

from echofm_jax.sweep_file import Sweep


def get_sweep() -> Sweep:
    """Mask ratio × seed."""
    return Sweep(
        config="configs/smoke.py:plus",
        grid={"objective.mask_ratio": [0.5, 0.6, 0.75, 0.9]},
        seeds=[0, 1, 2],
    )
