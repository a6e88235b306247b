"""Should clips that hold no second beat teach rhythm, and steps that are neighbours be positives?

    echofm sweep configs/sweeps/gate.py --workdir=runs/gate --config.data.dir=DATA --jobs=2
    echofm report runs/gate --baseline=plus

Nine runs of configs/smoke.py:plus: as it is, without its gate, and with the next step a positive.
"""

from echofm_jax.sweep_file import Sweep


def get_sweep() -> Sweep:
    """Part of `plus` left out × seed."""
    return Sweep(
        config="configs/smoke.py:plus",
        settings={
            "plus": {},
            "no_gate": {"objective.cycle_gate": 0.0},
            "min_lag=1": {"objective.min_positive_lag": 1},
        },
        seeds=[0, 1, 2],
    )
