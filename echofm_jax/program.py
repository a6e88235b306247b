"""What runs on the accelerators: a config on a mesh, as shapes, shardings and compiled functions.

Training and planning both build their step here, so that what was planned is what runs.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from echofm_jax import config as configs
from echofm_jax.architecture import Architecture
from echofm_jax.gradient import Exchange
from echofm_jax.masking import noise_shape
from echofm_jax.objective import Objective
from echofm_jax.optimizer import adamw, learning_rate
from echofm_jax.patches import CHANNELS
from echofm_jax.sharding import BATCH, check_batch, place_batch
from echofm_jax.step import Batch, State, abstract_state, eval_step, init_state, train_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """One training step and what it needs; nothing is compiled or allocated yet."""

    mesh: Mesh
    arch: Architecture
    objective: Objective
    recipe: configs.Recipe
    schedule: Callable  # finished updates → learning rate
    optimizer: optax.GradientTransformation
    exchange: Exchange
    ema: float
    state: State  # of jax.ShapeDtypeStruct, with shardings
    batch: Batch  # the same; `clip` and `noise` of the global batch

    @property
    def shardings(self) -> State:
        """The state's shardings."""
        return jax.tree.map(lambda x: x.sharding, self.state)

    def init(self, key: jax.Array) -> State:
        """A fresh state, every array created where it belongs."""
        create = functools.partial(init_state, self.arch, self.optimizer, ema=self.ema)
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
            ema=self.ema,
            exchange=self.exchange,
        )
        update = jax.jit(update, donate_argnums=0, out_shardings=(self.shardings, None))
        return update.lower(self.state, self.batch)

    def lower_evaluation(self) -> jax.stages.Lowered:
        """(state, batch) → the batch's loss terms, lowered for the mesh's devices."""
        losses = functools.partial(
            eval_step, arch=self.arch, objective=self.objective, exchange=self.exchange
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
    schedule = functools.partial(
        learning_rate, peak=recipe.peak_lr, minimum=config.optim.min_lr,
        warmup=recipe.warmup_steps, epochs=recipe.steps,
    )  # fmt: skip
    optim = config.optim
    optimizer = adamw(
        schedule,
        clip_norm=optim.clip_norm,
        weight_decay=optim.weight_decay,
        moments_dtype=optim.moments_dtype,
    )
    return Program(
        mesh=mesh,
        arch=arch,
        objective=objective,
        recipe=recipe,
        schedule=schedule,
        optimizer=optimizer,
        exchange=Exchange(
            mesh=mesh,
            preset=config.mesh.preset,
            compute_dtype=arch.dtype,
            reduce_dtype=optim.reduce_dtype,
            microbatches=optim.accumulate,
        ),
        ema=optim.ema,
        state=abstract_state(arch, optimizer, mesh, config.mesh.preset, optim.ema),
        batch=abstract_batch(config.data.batch_size, arch, objective, mesh, colour),
    )


def abstract_batch(
    batch_size: int, arch: Architecture, objective: Objective, mesh: Mesh, colour: bool
) -> Batch:
    """A global batch as the loader makes it: shapes, dtypes and shardings."""
    channels = (CHANNELS,) * colour
    noise = noise_shape(objective.masking, arch.steps, arch.positions)
    sharding = NamedSharding(mesh, BATCH)
    return {
        "clip": jax.ShapeDtypeStruct(
            (batch_size, arch.frames, arch.size, arch.size, *channels), jnp.uint8, sharding=sharding
        ),
        "noise": jax.ShapeDtypeStruct((batch_size, *noise), jnp.float32, sharding=sharding),
    }
