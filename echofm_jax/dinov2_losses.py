"""DINOv2's losses: teacher targets, cross-entropies with them, KoLeo. Float32 throughout.

Inside a `shard_map` whose manual axes share the batch, everything is of the global batch: a loss is
a device's part of it, whose mean over devices is the loss of the whole batch on one device.
Written from the papers (DINO, ICCV 2021; iBOT, ICLR 2022; DINOv2, TMLR 2024); which sums and means
are taken is that of the official code, for the sake of its hyperparameters.
"""

import jax
import jax.numpy as jnp

from echofm_jax.dino_head import unit
from echofm_jax.sharding import max_over_devices, of_all_devices, sum_over_devices

CENTERINGS = ("sinkhorn_knopp", "centering")
FLOOR = 1e-30  # of a sum that is divided by; where it rules, the dividend is nothing, too


def sinkhorn(
    logits: jax.Array, temperature: jax.Array, valid: jax.Array, iterations: int = 3
) -> jax.Array:
    """Teacher logits [n, K] → targets [n, K]: every prototype gets an equal share of the batch.

    Rows where `valid` [n] is False count for nothing; their targets are zeros. Instead of rescaling
    the matrix of all samples and prototypes in turn, one factor for each is kept: the matrix is
    only read. A sample's largest logit goes into its first factor, so nothing overflows.
    """
    logits = jax.lax.stop_gradient(logits) / temperature
    largest = jnp.where(valid, logits.max(-1), -jnp.inf)  # [n]
    scores = jnp.exp(logits - logits.max(-1, keepdims=True))  # [n, K]
    of_sample = jnp.exp(largest - max_over_devices(largest.max()))  # [n]
    of_sample = jnp.where(valid, of_sample, 0)
    share = sum_over_devices(valid.sum()) / logits.shape[1]  # of a prototype, in samples
    for _ in range(iterations):
        held = sum_over_devices((scores * of_sample[:, None]).sum(0))  # [K]
        of_prototype = share / jnp.maximum(held, FLOOR)
        of_sample = valid / jnp.maximum((scores * of_prototype).sum(-1), FLOOR)  # [n]
    return scores * of_prototype * of_sample[:, None]


def centred(logits: jax.Array, center: jax.Array, temperature: jax.Array) -> jax.Array:
    """Teacher logits [..., K] and their running mean [K] → targets, a softmax of the difference."""
    return jax.nn.softmax((jax.lax.stop_gradient(logits) - center) / temperature, axis=-1)


def batch_center(logits: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean [K] of the teacher's logits [n, K] over the global batch's valid rows."""
    total = sum_over_devices(jnp.where(valid[:, None], jax.lax.stop_gradient(logits), 0).sum(0))
    return total / jnp.maximum(sum_over_devices(valid.sum()), 1)


def cross_entropy(logits: jax.Array, targets: jax.Array, temperature: float) -> jax.Array:
    """Of targets [..., K] with softmax(logits [..., K] / temperature) → [...]."""
    return -(targets * jax.nn.log_softmax(logits / temperature, axis=-1)).sum(-1)


def masked_patches(mask: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """Where an image's crops are masked, in a list of one length whatever the mask.

    Args:
      mask: [B, crops, N] bool.
      most: at least as many as any image has masked; those beyond it would be left out.

    Returns:
      index [B, most] into crops·N, ascending, and weight [B, most]: 1 / (masked patches of that
      crop), and 0 where the list is padded.
    """
    flat = mask.reshape(mask.shape[0], -1)  # [B, crops·N]
    index = jnp.argsort(~flat, axis=1, stable=True)[:, :most]  # [B, most]
    weight = mask / jnp.maximum(mask.sum(-1, keepdims=True), 1)  # [B, crops, N]
    return index, jnp.take_along_axis(weight.reshape(flat.shape), index, axis=1)


def koleo(x: jax.Array, eps: float = 1e-8) -> jax.Array:
    """Kozachenko-Leonenko's entropy estimate: spreads x [B, D], one row an image, over the sphere.

    Mean over a device's rows of -log distance to the nearest of all devices' other rows; both ends
    of that distance have a gradient. (The official code seeks among a device's own rows.)
    """
    x = unit(x.astype(jnp.float32), axis=-1, eps=eps)
    everyone, first = of_all_devices(x)  # [all B, D]
    cosines = jnp.einsum("bd,ad->ba", x, everyone, precision="highest")  # [B, all B]
    itself = first + jnp.arange(x.shape[0])[:, None] == jnp.arange(everyone.shape[0])
    nearest = jnp.where(itself, -jnp.inf, cosines).argmax(-1)  # [B]
    distance = jnp.linalg.norm(x - everyone[nearest] + eps, axis=-1)
    return -jnp.log(distance + eps).mean()
