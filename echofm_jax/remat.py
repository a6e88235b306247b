"""What the backward pass finds saved, by name; the rest it computes again."""

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name

ATTENTION = "attention"
POLICIES = {
    # One row of attention's output stands for all of a row's logits: cheap to keep, dear to redo.
    "full": jax.checkpoint_policies.save_only_these_names(ATTENTION),
    # Outputs of matrix products too.
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(ATTENTION),
    ),
}
KINDS = (*POLICIES, "none")


def recomputed(body: Callable, remat: str) -> Callable:
    """`body` with a backward pass that keeps what the policy says; `none` keeps everything."""
    if remat == "none":
        return body
    return jax.checkpoint(body, policy=POLICIES[remat], prevent_cse=False)


def saved(attention: jax.Array) -> jax.Array:
    """Marks an attention's output (or what stands for its logits) as worth keeping."""
    return checkpoint_name(attention, ATTENTION)
