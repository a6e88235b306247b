"""Should clips that hold no second beat teach rhythm, and steps that are neighbours be positives?

    echofm sweep configs/sweeps/gate.py --workdir=runs/gate --config.data.dir=DATA --jobs=2
    echofm report runs/gate --baseline=official

Twelve runs of configs/smoke.py. `official` weighs all anchors alike and takes the next step for a
positive, too; `gate` weighs each by how far the prior's similarity rises again on either side.
"""

from echofm_jax.sweep_file import Sweep

GATE = {"objective.cycle_gate": 0.5}  # a rebound of half a cosine counts fully
LAG = {"objective.min_positive_lag": 2}


def get_sweep() -> Sweep:
    """Gate × least lag of positives × seed."""
    return Sweep(
        config="configs/smoke.py:official",
        settings={"official": {}, "gate": GATE, "min_lag=2": LAG, "both": GATE | LAG},
        seeds=[0, 1, 2],
    )
