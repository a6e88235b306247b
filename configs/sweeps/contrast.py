"""Temperature, margin and weights of the periodic contrast, one at a time.

    echofm sweep configs/sweeps/contrast.py --workdir=runs/contrast --config.data.dir=DATA --jobs=2
    echofm report runs/contrast --baseline=plus

Twenty-seven runs of configs/smoke.py:plus, which has τ 0.1, margin 0.2 and both weights 1.
"""

from echofm_jax.sweep_file import Sweep

VALUES = {
    "cycle_tau": [0.05, 0.2],
    "triplet_margin": [0.1, 0.4],
    "triplet_weight": [0.0, 3.0],
    "cycle_weight": [0.0, 3.0],
}


def get_sweep() -> Sweep:
    """One field of the objective changed × seed."""
    return Sweep(
        config="configs/smoke.py:plus",
        settings={"plus": {}}
        | {
            f"{field}={value:g}": {f"objective.{field}": value}
            for field, values in VALUES.items()
            for value in values
        },
        seeds=[0, 1, 2],
    )
