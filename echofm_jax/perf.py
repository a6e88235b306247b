"""Counted floating-point operations, chip peaks and model FLOPs utilisation (MFU).

FLOPs are counted from the architecture: the compiler's own count sees a scan's body once.
"""

import time
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from data_pipelines.crop_masks import most_masked
from echofm_jax.architecture import Architecture
from echofm_jax.masking import num_kept
from echofm_jax.patches import CHANNELS
from echofm_jax.student_teacher import GLOBAL_CROPS

if TYPE_CHECKING:
    from echofm_jax.image_architecture import ImageArchitecture
    from echofm_jax.objectives.dinov2 import DINOv2Objective
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


def image_step_flops(arch: "ImageArchitecture", objective: "DINOv2Objective") -> float:
    """Of one image's crops: the student's forward and backward, the teacher's forward."""
    d, gated = arch.width, arch.ffn == "swiglu"

    def backbone(patches: int) -> float:
        n = 1 + arch.registers + patches
        block = 4 * n * d * d + 2 * n * n * d + (2 + gated) * n * d * arch.hidden
        return 2 * (patches * arch.patch**2 * CHANNELS * d + arch.depth * block)

    hidden, bottleneck = objective.hidden, objective.bottleneck
    head = 2 * (d * hidden + hidden**2 + hidden * bottleneck + bottleneck * objective.prototypes)
    masked = most_masked(arch.positions, objective.mask_ratio)
    of_global = GLOBAL_CROPS * (backbone(arch.positions) + head) + masked * head
    of_local = backbone((objective.local_size // arch.patch) ** 2) + head
    return 3 * (of_global + objective.local_crops * of_local) + of_global


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
