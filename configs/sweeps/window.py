"""32 consecutive frames, or 32 frames over so many seconds?

    echofm sweep configs/sweeps/window.py --workdir=runs/window --config.data.dir=DATA
    echofm report runs/window --baseline=window_seconds=0

Twelve runs of configs/smoke.py:plus. 0 takes consecutive frames, as the paper: 1.07 s at 30 frames
a second, often less than a beat, so that no positive of the periodic contrast comes from another.
"""

from echofm_jax.sweep_file import Sweep


def get_sweep() -> Sweep:
    """Seconds of a window × seed."""
    return Sweep(
        config="configs/smoke.py:plus",
        grid={"data.window_seconds": [0.0, 1.0, 2.0, 3.0]},
        seeds=[0, 1, 2],
    )
