"""What is learned. An objective is everything about training that the loop does not know.

`echofm.py` is EchoFM: a video masked autoencoder with periodic contrast; `dinov2.py` is DINOv2 on
single frames, as EchoApex pre-trains. A config names its objective (`method`), and this file is
where the name becomes one. All that an objective owns is in its class.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
from ml_collections import ConfigDict

from echofm_jax.architecture import Architecture
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.objectives.dinov2 import DINOv2Objective
from echofm_jax.objectives.echofm import EchoFMObjective

Batch = dict[str, jax.Array]


class Time(NamedTuple):
    """Where training stands."""

    epoch: jax.Array  # finished, of the recipe's own; a scalar
    epochs: float  # of the whole recipe


class Objective(Protocol):
    """What the loop asks of an objective; `arch` is the model's part of the config.

    A field of a config's `objective` section is a field of it.
    """

    SHAPES: tuple[str, ...]  # its fields that the state's shapes follow from
    CLIPPED_APART: bool  # gradients of each part of the parameters, or the norm of all is limited

    def problems(self, arch: Any, config: ConfigDict) -> list[str]:
        """What is impossible about its numbers, for such a model and config; empty if nothing."""

    def init_params(self, arch: Any, key: jax.Array) -> dict:
        """Fresh parameters, which the optimizer updates: a nested dict."""

    def init_own(self, params: dict) -> dict:
        """What it keeps beside the parameters, such as a teacher; {} for nothing."""

    def batch(self, arch: Any, batch_size: int, colour: bool) -> dict[str, jax.ShapeDtypeStruct]:
        """What it reads of a global batch, samples first."""

    def loader_fields(self, arch: Any, data: ConfigDict) -> dict[str, Any]:
        """The fields of a `LoaderConfig` that make such batches; `data`: the config's section."""

    def loss(
        self, params: dict, batch: Batch, *, arch: Any, own: dict, at_use: Any, time: Time
    ) -> tuple[jax.Array, dict]:
        """The total loss and its terms, scalars, means over the samples given; `bind`'s `at_use`.

        A term `seen` is none: it is what `after_update` needs to know of the batch.
        """

    def at_rest(self, arch: Any) -> Any:
        """The model as its held-out losses are measured: without what only training does to it."""

    def after_update(self, own: dict, params: dict, seen: dict, time: Time) -> dict:
        """What it keeps, once the optimizer has made these parameters of a batch."""

    def rates(self, arch: Any) -> Callable[[dict, Time], dict] | None:
        """(parameters, time) → by what each one's learning rate is multiplied; None: by 1."""

    def step_flops(self, arch: Any) -> float:
        """Forward and backward of one sample, recomputation not counted."""


METHODS = {
    "echofm": (Architecture, EchoFMObjective),
    "dinov2": (ImageArchitecture, DINOv2Objective),
}
