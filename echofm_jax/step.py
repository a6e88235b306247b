"""Pure functions of training: a fresh state, one update.

A state is a plain dict: `params`, `opt_state`, `step` (updates tried), `skipped` (updates that
were not finite), `bad_in_a_row`, `ema` (the parameters' moving average) where one is kept, and
`own`, what the objective keeps, if anything.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from echofm_jax.gradient import Exchange, accumulate
from echofm_jax.objectives import Batch, Objective, Time
from echofm_jax.sharding import state_shardings

State = dict


def state_from_params(
    params: dict,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    ema: float = 0.0,
) -> State:
    """A state at step 0 around given parameters; with `ema`, their average begins with them."""
    zero = jnp.zeros((), jnp.int32)
    own = objective.init_own(params)
    return {
        "params": params,
        "opt_state": optimizer.init(params),
        "step": zero,
        "skipped": zero,
        "bad_in_a_row": zero,
        **({"ema": jax.tree.map(jnp.copy, params)} if ema else {}),
        **({"own": own} if own else {}),
    }


def init_state(
    arch: Any,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    ema: float = 0.0,
) -> State:
    """A fresh state."""
    return state_from_params(objective.init_params(arch, key), objective, optimizer, ema)


def abstract_state(
    arch: Any,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    preset: str,
    ema: float = 0.0,
) -> State:
    """Shapes, dtypes and shardings of a state; nothing is allocated."""
    shapes = jax.eval_shape(lambda: init_state(arch, objective, optimizer, jax.random.key(0), ema))
    shardings = state_shardings(shapes, mesh, preset)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )


def train_step(
    state: State,
    batch: Batch,
    *,
    arch: Any,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    clock: Callable[[jax.Array], Time],
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
      clock: finished updates → where training stands.
      microbatches: gradients and metrics are the mean over so many equal parts of the batch.
      ema: decay of the parameters' moving average, 0 = none is kept. It is less at first, so that
        the random start is soon forgotten (as in Polyak averaging in TensorFlow).
      exchange: of the devices that share the batch; None = this device has it all.
    """
    loss_fn, kept = loss_of(state, arch, objective, clock)
    if exchange is None:
        grads, metrics = accumulate(
            lambda params, part: loss_fn(params, part, kept), state["params"], batch, microbatches
        )
    else:
        grads, metrics = exchange.gradient(loss_fn, state["params"], batch, kept)
    seen = metrics.pop("seen", {})
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
    if "own" in state:
        own = objective.after_update(state["own"], params, seen, clock(state["step"]))
        new_state["own"] = keep(own, state["own"])
    counts = {name: new_state[name] for name in ("skipped", "bad_in_a_row")}
    return new_state, metrics | {"grad_norm": norm} | counts


def eval_step(
    state: State,
    batch: Batch,
    *,
    arch: Any,
    objective: Objective,
    clock: Callable[[jax.Array], Time],
    exchange: Exchange | None = None,
) -> dict[str, jax.Array]:
    """The loss terms of a batch; by the parameters' moving average where one is kept."""
    params = state.get("ema", state["params"])
    loss_fn, kept = loss_of(state, arch, objective, clock)
    if exchange is None:
        metrics = loss_fn(params, batch, kept)[1]
    else:
        metrics = exchange.metrics(loss_fn, params, batch, kept)
    metrics.pop("seen", None)
    return metrics


def loss_of(
    state: State, arch: Any, objective: Objective, clock: Callable[[jax.Array], Time]
) -> tuple[Callable, dict]:
    """The objective's loss as a function of (params, batch, kept, at_use), and this state's `kept`.

    What is kept is an argument, for devices hold parts of it.
    """
    epoch, epochs = clock(state["step"])

    def loss_fn(params: dict, batch: Batch, kept: dict, at_use: Callable | None = None):
        time = Time(kept["epoch"], epochs)
        return objective.loss(params, batch, arch=arch, own=kept["own"], at_use=at_use, time=time)

    return loss_fn, {"own": state.get("own", {}), "epoch": epoch}
