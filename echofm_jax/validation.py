"""Losses of held-out clips while training goes on: the same clips, windows and masks every time."""

import dataclasses
import itertools

import jax
from ml_collections import ConfigDict

from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax.goodput import Goodput
from echofm_jax.program import Program
from echofm_jax.sharding import batch_share
from echofm_jax.step import State


class Validation:
    """The first batches of the split `val`, every `train.evaluate_every` steps; all hosts together.

    Where the split has less than one batch, its clips come several times in it.
    """

    def __init__(
        self,
        config: ConfigDict,
        program: Program,
        loader: LoaderConfig,
        clips: int,
        goodput: Goodput,
    ):
        """`clips` are in the split, perhaps none; `loader` is that of training."""
        self.every = config.train.evaluate_every if clips else 0
        self.batches = max(1, min(config.train.evaluate_batches, clips // loader.batch_size))
        self.program, self.goodput, self.losses = program, goodput, None
        self.loader = dataclasses.replace(loader, split="val", shuffle=False)

    def due(self, step: int) -> bool:
        """Whether held-out clips are to be looked at after this step."""
        return bool(self.every) and step % self.every == 0

    def measure(self, state: State) -> dict[str, float]:
        """{`val/loss`: mean over the clips, …}; the devices finish their steps first."""
        self.goodput.drain()
        with self.goodput.time("evaluation"):
            if self.losses is None:  # the first time
                with self.goodput.time("compile"):
                    self.losses = self.program.lower_evaluation().compile()
            share, shares = batch_share(self.loader.batch_size, self.program.mesh)
            loader = make_loader(self.loader, process_index=share, process_count=shares)
            found = []
            for batch in itertools.islice(loader, self.batches):
                found.append(self.losses(state, self.program.place(batch)))
            loader.close()
            mean = jax.tree.map(lambda *each: sum(each) / len(each), *jax.device_get(found))
        return {f"val/{name}": float(value) for name, value in mean.items()}
