"""Does it matter which tubelets are hidden: in every step the same, anew in each, or anywhere?

    echofm sweep configs/sweeps/masking.py --workdir=runs/masking --config.data.dir=DATA --jobs=2
    echofm report runs/masking --baseline=masking=consistent

Twelve runs of configs/smoke.py:plus; `consistent` is the paper's masking, `random` VideoMAE-style.
"""

from echofm_jax.sweep_file import Sweep


def get_sweep() -> Sweep:
    """Masking kind × seed."""
    return Sweep(
        config="configs/smoke.py:plus",
        grid={"objective.masking": ["consistent", "random", "uniform_frame", "sector"]},
        seeds=[0, 1, 2],
    )
