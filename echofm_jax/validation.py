"""Losses of held-out clips while training goes on: the same clips, windows and masks every time."""

import dataclasses
import itertools

import jax
from ml_collections import ConfigDict

from data_pipelines.augment import NONE
from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax.goodput import Goodput
from echofm_jax.program import Program
from echofm_jax.sharding import batch_share
from echofm_jax.step import State


class Validation:
    """Some batches of the split `val`, every `train.evaluate_every` steps; all hosts together.

    The clips are the same whatever the run's seed, and of all parts of the split alike. Where it
    has less than one batch, its clips come several times in it. A record that cannot be read has
    another one in its place and ends no training.
    """

    def __init__(
        self,
        config: ConfigDict,
        program: Program,
        loader: LoaderConfig,
        clips: int,
        goodput: Goodput,
    ):
        """`clips` are in the split, perhaps none; `loader` is that of training.

        Raises:
          InputError: the split cannot be opened.
        """
        self.every = config.train.evaluate_every if clips else 0
        self.batches = max(1, min(config.train.evaluate_batches, clips // loader.batch_size))
        self.program, self.goodput, self.losses = program, goodput, None
        if self.every:  # now, and not after many steps, it is seen whether the split is whole
            share, shares = batch_share(loader.batch_size, program.mesh)
            held_out = dataclasses.replace(
                loader, split="val", seed=0, augment=NONE, windows_per_record=1,
                max_bad_records=float(loader.max_bad_records > 0),
            )  # fmt: skip
            self.loader = make_loader(held_out, process_index=share, process_count=shares)
            self.beginning = self.loader.get_state()

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
            self.loader.set_state(self.beginning)
            found = [
                jax.device_get(self.losses(state, self.program.place(batch)))
                for batch in itertools.islice(self.loader, self.batches)
            ]
            self.loader.close()  # its threads; nothing of it stays in memory between two looks
            mean = jax.tree.map(lambda *each: sum(each) / len(each), *found)
        return {f"val/{name}": float(value) for name, value in mean.items()}
