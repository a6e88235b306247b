"""The EchoFM objective: masked reconstruction, periodic contrast, distillation of the prior."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from data_pipelines.augment import Augment
from echofm_jax.architecture import Architecture
from echofm_jax.cycle_gate import cycle_gate
from echofm_jax.losses import (
    cycle_distillation,
    periodic_contrast,
    pixel_prior,
    reconstruction,
    self_similarity,
)
from echofm_jax.masking import noise_shape, split_tokens
from echofm_jax.model import bind, init_params
from echofm_jax.patches import CHANNELS, take_tokens, target_patches, with_channels
from echofm_jax.perf import step_flops


@dataclasses.dataclass(frozen=True, kw_only=True)
class EchoFMObjective:
    """Weights and choices of the loss; the defaults are the public implementation's."""

    norm_targets: bool = True  # reconstruct per-patch normalised pixels
    prior: str = "pixel"  # where same and opposite phase come from: `pixel` or `embedding`
    prior_alpha: float = 1.0  # how much of the temporal mean the pixel prior removes
    embedding_alpha: float = 0.0  # … and the similarity of the frame embeddings
    triplet_weight: float = 1.0
    triplet_margin: float = 0.2
    min_positive_lag: int = 1  # steps between an anchor and its positives
    cycle_weight: float = 1.0
    cycle_tau: float = 0.1
    cycle_gate: float = 0.0  # the prior's rebound that counts fully (cycle_gate.py); 0: all do
    masking: str = "consistent"
    mask_ratio: float = 0.75

    SHAPES, CLIPPED_APART = (), False

    def problems(self, arch: Architecture, config: ConfigDict) -> list[str]:
        """What is impossible about these numbers for so many time steps; empty if nothing."""
        lag, gate, steps = self.min_positive_lag, self.cycle_gate, arch.steps
        rules = [
            (not 1 <= lag < steps, f"objective.min_positive_lag={lag} is not from 1 to {steps - 1}:"
             f" model.frames / model.tubelet is {steps} time steps"),
            (not 0 <= self.embedding_alpha <= 1,
             f"objective.embedding_alpha={self.embedding_alpha} is not in [0, 1]"),
            (not 0 <= gate <= 2,  # cosines differ by no more
             f"objective.cycle_gate={gate} is not in [0, 2]"),
            (not 0 <= self.mask_ratio < 1,
             f"objective.mask_ratio={self.mask_ratio} is not in [0, 1)"),
        ]  # fmt: skip
        return [text for broken, text in rules if broken]

    def init_params(self, arch: Architecture, key: jax.Array) -> dict:
        """Encoder, projector and decoder."""
        return init_params(arch, key)

    def init_own(self, params: dict) -> dict:
        """Nothing."""
        return {}

    def batch(
        self, arch: Architecture, batch_size: int, colour: bool
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """`clip` [B, T, S, S(, 3)] and the `noise` that decides what of it is hidden."""
        shape = (batch_size, arch.frames, arch.size, arch.size, *(CHANNELS,) * colour)
        noise = (batch_size, *noise_shape(self.masking, arch.steps, arch.positions))
        return {
            "clip": jax.ShapeDtypeStruct(shape, jnp.uint8),
            "noise": jax.ShapeDtypeStruct(noise, jnp.float32),
        }

    def loader_fields(self, arch: Architecture, data: ConfigDict) -> dict:
        """Windows of clips."""
        return {
            "frames": arch.frames,
            "size": arch.size,
            "tubelet": arch.tubelet,
            "patch": arch.patch,
            "masking": self.masking,
            "window_seconds": data.window_seconds,
            "assumed_fps": data.assumed_fps,
            "augment": Augment(**data.augment),
        }

    def loss(
        self, params: dict, batch: dict, *, arch: Architecture, own: dict, at_use: Callable | None,
        time: tuple,
    ) -> tuple[jax.Array, dict]:  # fmt: skip
        """`loss_and_metrics`, which no time changes."""
        return loss_and_metrics(params, batch, arch, self, at_use)

    def at_rest(self, arch: Architecture) -> Architecture:
        """The same: nothing but the masks is drawn."""
        return arch

    def after_update(self, own: dict, params: dict, seen: dict, time: tuple) -> dict:
        """Nothing is kept."""
        return own

    def rates(self, arch: Architecture) -> None:
        """All parameters learn at the same rate."""

    def step_flops(self, arch: Architecture) -> float:
        """Forward and backward of one clip."""
        return step_flops(arch, self)


def loss_and_metrics(
    params: dict,
    batch: dict[str, jax.Array],
    arch: Architecture,
    objective: EchoFMObjective,
    at_use: Callable | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Batch {clip [B, T, H, W(, C)], noise [B, ...]} → (total loss, {term: scalar float32}).

    `at_use` is `model.bind`'s.
    """
    model = bind(arch, params, at_use)
    clips = with_channels(batch["clip"])
    visible, masked = split_tokens(
        batch["noise"], objective.masking, arch.steps, objective.mask_ratio
    )
    tokens = model.encoder(clips, visible)  # [B, n, D]
    predictions = model.decoder(tokens, visible, masked)  # [B, m, u'·p·p, 3]
    targets = take_tokens(target_patches(clips, arch), masked)  # [B, m, u'·p·p, C]
    recon = reconstruction(predictions, targets, normalise=objective.norm_targets)
    z = model.projector(tokens, visible)  # [B, t, D]
    similarity = self_similarity(z, objective.embedding_alpha)  # [B, t, t]
    prior = prior_similarity(clips, similarity, arch, objective)
    gate = cycle_gate(prior, objective.cycle_gate) if objective.cycle_gate else None  # [B, t]
    triplet = periodic_contrast(
        similarity,
        prior,
        margin=objective.triplet_margin,
        min_positive_lag=objective.min_positive_lag,
        gate=gate,
    )
    cycle = cycle_distillation(similarity, prior, tau=objective.cycle_tau, gate=gate)
    total = recon + objective.triplet_weight * triplet.loss + objective.cycle_weight * cycle
    return total, {
        "loss": total,
        "recon": recon,
        "triplet": triplet.loss,
        "triplet_active": triplet.active,
        "cycle": cycle,
        **({} if gate is None else {"gate": gate.mean()}),
    }


def prior_similarity(
    clips: jax.Array, similarity: jax.Array, arch: Architecture, objective: EchoFMObjective
) -> jax.Array:
    """The prior [B, t, t], never a path for gradients."""
    if objective.prior == "embedding":
        return jax.lax.stop_gradient(similarity)
    return pixel_prior(clips, arch.tubelet, objective.prior_alpha)
