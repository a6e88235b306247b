"""Pure functions of training: a fresh state, one update.

A state is a plain dict: `params`, `opt_state`, `step` (updates tried), `skipped` (updates that
were not finite) and `bad_in_a_row`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from echofm_jax.architecture import Architecture
from echofm_jax.model import init_params
from echofm_jax.objective import Objective, loss_and_metrics
from echofm_jax.sharding import state_shardings

State = dict
Batch = dict[str, jax.Array]


def state_from_params(params: dict, optimizer: optax.GradientTransformation) -> State:
    """A state at step 0 around given parameters."""
    zero = jnp.zeros((), jnp.int32)
    return {
        "params": params,
        "opt_state": optimizer.init(params),
        "step": zero,
        "skipped": zero,
        "bad_in_a_row": zero,
    }


def init_state(arch: Architecture, optimizer: optax.GradientTransformation, key) -> State:
    """A fresh state."""
    return state_from_params(init_params(arch, key), optimizer)


def abstract_state(
    arch: Architecture, optimizer: optax.GradientTransformation, mesh: Mesh, preset: str
) -> State:
    """Shapes, dtypes and shardings of a state; nothing is allocated."""
    shapes = jax.eval_shape(lambda: init_state(arch, optimizer, jax.random.key(0)))
    shardings = state_shardings(shapes, mesh, preset)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )


def train_step(
    state: State,
    batch: Batch,
    *,
    arch: Architecture,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    microbatches: int = 1,
) -> tuple[State, dict[str, jax.Array]]:
    """One update. A step whose loss or gradient is not finite changes nothing and is counted.

    With microbatches, gradients and metrics are the mean over equal parts of the batch.
    """
    loss_fn = functools.partial(loss_and_metrics, arch=arch, objective=objective)
    grads, metrics = accumulate(loss_fn, state["params"], batch, microbatches)
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
    updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
    params = optax.apply_updates(state["params"], updates)

    def keep(new, old):
        return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

    new_state = {
        "params": keep(params, state["params"]),
        "opt_state": keep(opt_state, state["opt_state"]),
        "step": state["step"] + 1,
        "skipped": state["skipped"] + ~finite,
        "bad_in_a_row": jnp.where(finite, 0, state["bad_in_a_row"] + 1),
    }
    counts = {name: new_state[name] for name in ("skipped", "bad_in_a_row")}
    return new_state, metrics | {"grad_norm": norm} | counts


def accumulate(
    loss_fn: Callable, params: dict, batch: Batch, microbatches: int
) -> tuple[dict, dict[str, jax.Array]]:
    """Mean gradient and metrics over `microbatches` parts, one part in memory at a time."""
    gradient = jax.grad(loss_fn, has_aux=True)
    if microbatches == 1:
        return gradient(params, batch)
    # Interleaved, so that each part takes the same share of every device's clips.
    parts = jax.tree.map(lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch)

    def body(total, part):
        return jax.tree.map(jnp.add, total, gradient(params, part)), None

    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], parts)),
    )
    total, _ = jax.lax.scan(body, zeros, parts)
    return jax.tree.map(lambda x: x / microbatches, total)


def eval_step(
    params: dict, batch: Batch, *, arch: Architecture, objective: Objective
) -> dict[str, jax.Array]:
    """The loss terms of a batch."""
    return loss_and_metrics(params, batch, arch, objective)[1]
