"""Counted floating-point operations, chip peaks and model FLOPs utilisation (MFU).

FLOPs are counted from the architecture: the compiler's own count sees a scan's body once.
"""

import time
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from echofm_jax.architecture import Architecture
from echofm_jax.masking import num_kept
from echofm_jax.patches import CHANNELS

if TYPE_CHECKING:
    from echofm_jax.objectives.echofm import EchoFMObjective

PEAK_TFLOPS = {  # device_kind → bfloat16 peak of one chip, from the vendors' data sheets
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v5p": 459,
    "TPU v6 lite": 918,
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H200": 989,
}


def forward_flops(arch: Architecture, objective: "EchoFMObjective", channels: int = 1) -> float:
    """Matrix-product FLOPs of one clip's forward pass (2 per multiply-add), as implemented."""
    kept = num_kept(arch.positions, objective.mask_ratio) * arch.steps
    if objective.masking == "random":
        kept = num_kept(arch.tokens, objective.mask_ratio)
    masked, d, dd = arch.tokens - kept, arch.width, arch.decoder_width

    def block(queries: int, keys: int, width: int, hidden: int) -> float:
        dense = 2 * queries * width * width + 2 * keys * width * width
        return 2 * (dense + 2 * queries * keys * width + 2 * queries * width * hidden)

    pixels, pred = arch.tubelet * arch.patch**2, arch.pred_tubelet * arch.patch**2 * CHANNELS
    return (
        2 * kept * pixels * channels * d
        + arch.depth * block(kept + 1, kept + 1, d, arch.hidden)
        + 4 * kept * d * d  # projector: keys and values of all tokens, the rest for its CLS only
        + arch.steps * 2 * d * (2 * d + 2 * arch.hidden)
        + 2 * kept * d * dd
        + (arch.decoder_depth - 1)
        * block(arch.tokens + 1, arch.tokens + 1, dd, arch.decoder_hidden)
        + block(masked, arch.tokens + 1, dd, arch.decoder_hidden)
        + 2 * masked * dd * pred
    )


def step_flops(arch: Architecture, objective: "EchoFMObjective") -> float:
    """Forward and backward of one clip, recomputation not counted."""
    return 3 * forward_flops(arch, objective)


def peak_flops() -> tuple[float, str]:
    """All devices' peak in FLOP/s, those of other hosts too, and where the figure comes from."""
    kind = jax.devices()[0].device_kind
    if kind in PEAK_TFLOPS:
        return PEAK_TFLOPS[kind] * 1e12 * jax.device_count(), f"{kind} data sheet, bfloat16"
    # On CPUs every host's devices share its cores.
    rate = measured_matmul_rate() * jax.process_count()
    return rate, "measured 1024³ float32 matrix product"


def measured_matmul_rate(size: int = 1024) -> float:
    """The best of eight float32 matrix products on the first device, in FLOP/s."""
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    times = []
    for _ in range(8):
        start = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
