"""What runs on the accelerators: a config on a mesh, as shapes, shardings and compiled functions.

Training and planning both build their step here, so that what was planned is what runs.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from echofm_jax import config as configs
from echofm_jax.gradient import Exchange
from echofm_jax.objectives import Batch, Objective
from echofm_jax.optimizer import adamw, cosine, learning_rate
from echofm_jax.sharding import BATCH, check_batch, place_batch
from echofm_jax.step import State, abstract_state, eval_step, init_state, train_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """One training step and what it needs; nothing is compiled or allocated yet."""

    mesh: Mesh
    arch: Any  # of objectives.METHODS
    objective: Objective
    recipe: configs.Recipe
    schedule: Callable  # finished updates → learning rate
    optimizer: optax.GradientTransformation
    exchange: Exchange
    ema: float
    state: State  # of jax.ShapeDtypeStruct, with shardings
    batch: Batch  # the same, of the global batch

    @property
    def shardings(self) -> State:
        """The state's shardings."""
        return jax.tree.map(lambda x: x.sharding, self.state)

    def init(self, key: jax.Array) -> State:
        """A fresh state, every array created where it belongs."""
        create = functools.partial(
            init_state, self.arch, self.objective, self.optimizer, ema=self.ema
        )
        return jax.jit(create, out_shardings=self.shardings)(key)

    def place(self, batch: dict[str, np.ndarray]) -> Batch:
        """What the step reads of a loader's batch, this process's share → global arrays."""
        return place_batch({name: batch[name] for name in self.batch}, self.mesh)

    def lower(self) -> jax.stages.Lowered:
        """The update (state, batch) → (state, metrics), lowered for the mesh's devices.

        Compile it and call it; the state given to it is donated.
        """
        update = functools.partial(
            train_step,
            arch=self.arch,
            objective=self.objective,
            optimizer=self.optimizer,
            clock=self.recipe.clock,
            ema=self.ema,
            exchange=self.exchange,
        )
        update = jax.jit(update, donate_argnums=0, out_shardings=(self.shardings, None))
        return update.lower(self.state, self.batch)

    def lower_evaluation(self) -> jax.stages.Lowered:
        """(state, batch) → the batch's loss terms, lowered for the mesh's devices."""
        losses = functools.partial(
            eval_step,
            arch=self.objective.at_rest(self.arch),
            objective=self.objective,
            clock=self.recipe.clock,
            exchange=self.exchange,
        )
        return jax.jit(losses).lower(self.state, self.batch)


def build(config: ConfigDict, mesh: Mesh, train_records: int, *, colour: bool = False) -> Program:
    """The program of a config on a mesh, for a data set of `train_records` clips.

    Args:
      config: checked.
      mesh: `sharding.make_mesh`, of real devices or of a topology's.
      train_records: clips of the training split; epochs become steps by it.
      colour: clips have three channels.

    Raises:
      InputError: the mesh does not divide the batch or a parameter.
    """
    check_batch(config.data.batch_size, config.optim.accumulate, mesh)
    arch, recipe = configs.architecture(config), configs.recipe(config, train_records)
    objective = configs.objective(config)
    optim, optimizer = config.optim, optimizer_of(config, recipe)
    return Program(
        mesh=mesh,
        arch=arch,
        objective=objective,
        recipe=recipe,
        schedule=rate_schedule(config, recipe),
        optimizer=optimizer,
        exchange=Exchange(
            mesh=mesh,
            preset=config.mesh.preset,
            compute_dtype=arch.dtype,
            reduce_dtype=optim.reduce_dtype,
            microbatches=optim.accumulate,
        ),
        ema=optim.ema,
        state=abstract_state(arch, objective, optimizer, mesh, config.mesh.preset, optim.ema),
        batch=abstract_batch(objective.batch(arch, config.data.batch_size, colour), mesh),
    )


def rate_schedule(config: ConfigDict, recipe: configs.Recipe) -> Callable:
    """Finished updates → learning rate."""
    return functools.partial(
        learning_rate, peak=recipe.peak_lr, minimum=config.optim.min_lr,
        warmup=recipe.warmup_steps, epochs=recipe.steps,
    )  # fmt: skip


def optimizer_of(config: ConfigDict, recipe: configs.Recipe) -> optax.GradientTransformation:
    """The optimizer of a config."""
    optim, decay = config.optim, config.optim.weight_decay
    if optim.weight_decay_growth != 1:
        end = decay * optim.weight_decay_growth
        decay = functools.partial(cosine, start=decay, end=end, steps=recipe.steps)
    objective = configs.objective(config)
    rates = objective.rates(configs.architecture(config))
    if rates is not None:
        by_epoch = rates
        rates = lambda params, count: by_epoch(params, recipe.clock(count))  # noqa: E731
    return adamw(
        rate_schedule(config, recipe),
        clip_norm=optim.clip_norm,
        clipped_apart=objective.CLIPPED_APART,
        weight_decay=decay,
        b2=optim.b2,
        moments_dtype=optim.moments_dtype,
        rates=rates,
    )


def abstract_batch(shapes: dict[str, jax.ShapeDtypeStruct], mesh: Mesh) -> Batch:
    """A global batch's shapes with its shardings: samples are split over all devices."""
    sharding = NamedSharding(mesh, BATCH)
    return {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        for name, x in shapes.items()
    }
