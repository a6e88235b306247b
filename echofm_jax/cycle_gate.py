"""How periodic a step's row of the prior is: a step that no beat repeats teaches no rhythm.

Similarity falls as the heart moves on and rises again when a phase comes back. No lag is assumed,
so beats of any length count, each by itself. All in float32.

A heart fills partly on the way by which it emptied, so half a beat rises again a little, too: with
`full` 0.5, 0.35 s of simulated sinus rhythm have a mean gate of 0.33, 1.07 s have 0.80.
"""

import jax
import jax.numpy as jnp
import numpy as np


def cycle_gate(prior: jax.Array, full: float) -> jax.Array:
    """Prior [B, t, t] → weight of every anchor [B, t], in [0, 1]; never a path for gradients.

    1 where the anchor's rebound is at least `full`, a difference of cosine similarities; 0 where
    similarity only falls on both sides.
    """
    return jax.lax.stop_gradient(jnp.clip(rebound(prior) / full, 0, 1))


def rebound(prior: jax.Array) -> jax.Array:
    """Prior [B, t, t] → how far similarity rises again after it fell, [B, t].

    Of anchor i: the largest prior[i, j] - min prior[i, k], k from i (without it) to j, on either
    side; with k = j it is 0 where nothing rises.
    """
    steps = prior.shape[-1]
    ahead = np.arange(steps) - np.arange(steps)[:, None]  # [t, t] steps from anchor i to j
    later = jax.lax.cummin(jnp.where(ahead > 0, prior, jnp.inf), axis=2)
    earlier = jax.lax.cummin(jnp.where(ahead < 0, prior, jnp.inf), axis=2, reverse=True)
    lowest = jnp.where(ahead > 0, later, earlier)  # [B, t, t] on the way from i to j
    return jnp.where(ahead == 0, 0, prior - lowest).max(-1)
