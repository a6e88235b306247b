"""Pure functions of training: a fresh state, one update.

A state is a plain dict: `params`, `opt_state`, `step` (updates tried), `skipped` (updates that
were not finite), `bad_in_a_row`, and `ema` (the parameters' moving average) where one is kept.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from echofm_jax.architecture import Architecture
from echofm_jax.gradient import Exchange, accumulate
from echofm_jax.model import init_params
from echofm_jax.objective import Objective, loss_and_metrics
from echofm_jax.sharding import state_shardings

State = dict
Batch = dict[str, jax.Array]


def state_from_params(
    params: dict, optimizer: optax.GradientTransformation, ema: float = 0.0
) -> State:
    """A state at step 0 around given parameters; with `ema`, their average begins with them."""
    zero = jnp.zeros((), jnp.int32)
    average = {"ema": jax.tree.map(jnp.copy, params)} if ema else {}
    return {
        "params": params,
        "opt_state": optimizer.init(params),
        "step": zero,
        "skipped": zero,
        "bad_in_a_row": zero,
        **average,
    }


def init_state(
    arch: Architecture, optimizer: optax.GradientTransformation, key: jax.Array, ema: float = 0.0
) -> State:
    """A fresh state."""
    return state_from_params(init_params(arch, key), optimizer, ema)


def abstract_state(
    arch: Architecture,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    preset: str,
    ema: float = 0.0,
) -> State:
    """Shapes, dtypes and shardings of a state; nothing is allocated."""
    shapes = jax.eval_shape(lambda: init_state(arch, optimizer, jax.random.key(0), ema))
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
    ema: float = 0.0,
    exchange: Exchange | None = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One update. A step whose loss or gradient is not finite changes nothing and is counted.

    Args:
      state: `init_state`.
      batch: the global batch.
      arch: of the model.
      objective: of the loss.
      optimizer: of the update.
      microbatches: gradients and metrics are the mean over so many equal parts of the batch.
      ema: decay of the parameters' moving average, 0 = none is kept. It is less at first, so that
        the random start is soon forgotten (as in Polyak averaging in TensorFlow).
      exchange: of the devices that share the batch; None = this device has it all.
    """
    loss_fn = functools.partial(loss_and_metrics, arch=arch, objective=objective)
    if exchange is None:
        grads, metrics = accumulate(loss_fn, state["params"], batch, microbatches)
    else:
        grads, metrics = exchange.gradient(loss_fn, state["params"], batch)
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
    if ema:
        decay = jnp.minimum(ema, (1 + state["step"]) / (10 + state["step"]))
        average = jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), state["ema"], params)
        new_state["ema"] = keep(average, state["ema"])
    counts = {name: new_state[name] for name in ("skipped", "bad_in_a_row")}
    return new_state, metrics | {"grad_norm": norm} | counts


def eval_step(
    state: State,
    batch: Batch,
    *,
    arch: Architecture,
    objective: Objective,
    exchange: Exchange | None = None,
) -> dict[str, jax.Array]:
    """The loss terms of a batch; by the parameters' moving average where one is kept."""
    params = state.get("ema", state["params"])
    loss_fn = functools.partial(loss_and_metrics, arch=arch, objective=objective)
    if exchange is None:
        return loss_fn(params, batch)[1]
    return exchange.metrics(loss_fn, params, batch)
