"""configs/echoapex_smoke.py for as long as an EchoFM of the other sweeps takes, and its own length.

    echofm sweep configs/sweeps/echoapex.py --workdir=runs/apex --config.data.dir=DATA --jobs=2
    echofm report runs/apex runs/defaults

300 updates of 16 images take about the processor time of 300 updates of 8 clips of
configs/smoke.py. Six runs, three seeds each.
"""

from echofm_jax.sweep_file import Sweep


def get_sweep() -> Sweep:
    """Length × seed."""
    return Sweep(
        config="configs/echoapex_smoke.py",
        settings={"echoapex": {"optim.steps": 300}, "echoapex_600": {}},
        seeds=[0, 1, 2],
    )
