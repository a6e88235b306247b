"""EchoFM's objective: masked reconstruction, periodic contrast, cycle distillation.

Equations: EchoFM (IEEE TMI 2025), section III-B and III-C; the pixel prior and the distillation
follow the public implementation of August 2026. All in float32.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from echofm_jax.patches import normalise_patches, to_unit, with_channels
from echofm_jax.sharding import mean_over_devices

POOLED = 32  # side of the pixel prior's pooled frames


def reconstruction(predictions: jax.Array, targets: jax.Array, *, normalise: bool) -> jax.Array:
    """Mean squared error of predictions [B, m, P, 3] against target patches [B, m, P, C]."""
    targets = to_unit(targets)
    if normalise:
        targets, _, _ = normalise_patches(targets)
    return ((predictions - targets) ** 2).mean()


def self_similarity(z: jax.Array, alpha: float = 0.0) -> jax.Array:
    """Embeddings [B, t, D] → cosine similarity of every pair of steps [B, t, t].

    `alpha` times their mean over time is taken away first. At 1 only what moves is compared, and
    embeddings that are nearly the same, whose cosines have no gradient, still differ.
    """
    if alpha:
        z = z - alpha * z.mean(1, keepdims=True)
    z = z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
    return jnp.einsum("btd,bsd->bts", z, z)


def pixel_prior(clips: jax.Array, tubelet: int, alpha: float) -> jax.Array:
    """Clips [B, T, H, W(, C)] → similarity of the steps' pixels [B, t, t].

    Grey, mean over the tubelet's frames, pooled to 32×32, minus its spatial mean, minus `alpha`
    times the clip's temporal mean (which leaves the moving part), cosine.
    """
    x = to_unit(with_channels(clips)).mean(-1)  # [B, T, H, W]
    b, frames, height, width = x.shape
    x = x.reshape(b, frames // tubelet, tubelet, height, width).mean(2)  # [B, t, H, W]
    x = jnp.einsum("ph,bthw,qw->btpq", pool_matrix(height), x, pool_matrix(width))
    x = x.reshape(b, frames // tubelet, -1)  # [B, t, 32·32]
    return self_similarity(x - x.mean(-1, keepdims=True), alpha)


def pool_matrix(length: int) -> np.ndarray:
    """[32, length]: adaptive average pooling as PyTorch defines its windows."""
    matrix = np.zeros((POOLED, length), np.float32)
    for i in range(POOLED):
        start, stop = i * length // POOLED, -(-(i + 1) * length // POOLED)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


class Contrast(NamedTuple):
    """Periodic contrast: the loss and the share of anchors whose triplet still teaches."""

    loss: jax.Array
    active: jax.Array


def periodic_contrast(
    similarity: jax.Array,
    prior: jax.Array,
    *,
    margin: float,
    min_positive_lag: int = 1,
    gate: jax.Array | None = None,
) -> Contrast:
    """Hardest-pair triplet loss on similarity [B, t, t], pairs chosen by prior [B, t, t].

    Positives of anchor i: |i - j| ≥ `min_positive_lag` with prior above the row's off-diagonal
    mean; negatives: at or below it and |i - j| > 1. Mean over the anchors that have both, weighted
    by `gate` [B, t] where one is given; 0 where no anchor has any weight.
    """
    steps = similarity.shape[-1]
    lag = np.abs(np.arange(steps)[:, None] - np.arange(steps))
    row_mean = jnp.where(lag > 0, prior, 0).sum(-1, keepdims=True) / (steps - 1)
    positive = (lag >= min_positive_lag) & (prior > row_mean)
    negative = (lag > 1) & (prior <= row_mean)
    valid = positive.any(-1) & negative.any(-1)  # [B, t]
    hardest_positive = jnp.where(positive, similarity, jnp.inf).min(-1)
    hardest_negative = jnp.where(negative, similarity, -jnp.inf).max(-1)
    gap = jnp.where(valid, hardest_negative, 0) - jnp.where(valid, hardest_positive, 0)
    hinge = jnp.where(valid, jax.nn.relu(gap + margin), 0)
    active = hinge > 0
    if gate is None:
        count = total_weight(valid)
        return Contrast(hinge.sum() / count, active.sum() / count)
    count = total_weight(valid * gate)
    return Contrast((gate * hinge).sum() / count, (gate * active).sum() / count)


def cycle_distillation(
    similarity: jax.Array, prior: jax.Array, *, tau: float, gate: jax.Array | None = None
) -> jax.Array:
    """Mean over rows of KL(softmax(prior/τ) ‖ softmax(similarity/τ)), diagonal removed.

    Weighted by `gate` [B, t] where one is given; 0 where no row has any weight.
    """
    steps = similarity.shape[-1]
    off_diagonal = ~np.eye(steps, dtype=bool)
    log_p = jax.nn.log_softmax(jnp.where(off_diagonal, prior / tau, -jnp.inf), -1)
    log_q = jax.nn.log_softmax(jnp.where(off_diagonal, similarity / tau, -jnp.inf), -1)
    difference = jnp.where(off_diagonal, log_p - log_q, 0)
    rows = (jnp.exp(log_p) * difference).sum(-1)  # [B, t]
    return rows.mean() if gate is None else (gate * rows).sum() / total_weight(gate)


def total_weight(weights: jax.Array) -> jax.Array:
    """Sum of weights [B, t] over a device's clips, the mean over devices; 1 instead of 0.

    A device's weighted sum over this is a mean that is right once devices are averaged.
    """
    total = mean_over_devices(weights.sum().astype(jnp.float32))
    return jnp.where(total > 0, total, 1)
