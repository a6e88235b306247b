"""What a model makes of a batch of held-out clips: losses, hidden pixels, frame embeddings."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from echofm_jax.architecture import Architecture
from echofm_jax.encode import encode
from echofm_jax.losses import pixel_prior, self_similarity
from echofm_jax.masking import split_tokens
from echofm_jax.model import EchoFM, bind
from echofm_jax.objectives.echofm import EchoFMObjective, loss_and_metrics
from echofm_jax.patches import (
    normalise_patches,
    take_tokens,
    target_patches,
    to_unit,
    unpatchify,
    with_channels,
)

Batch = dict[str, jax.Array]
INPUTS = ("clip", "noise", "sector")  # of a batch
compiled = partial(jax.jit, static_argnames=("arch", "objective"))


class Hidden(NamedTuple):
    """The hidden patches of a batch, pixels in [0, 1]."""

    masked: jax.Array  # [B, m] their tokens
    targets: jax.Array  # [B, m, u'·p·p, C]
    predictions: jax.Array  # [B, m, u'·p·p, 3]
    means: jax.Array  # [B, m, 1, 1] what predicting no contrast at all would give


def hidden_patches(
    model: EchoFM, batch: Batch, arch: Architecture, objective: EchoFMObjective
) -> Hidden:
    """Predict the hidden patches of a batch, as pixels.

    A model of normalised patches says nothing of a patch's mean and contrast: they are the true
    ones, so its error is to be read beside that of `means`.
    """
    clips = with_channels(batch["clip"])
    visible, masked = split_tokens(
        batch["noise"], objective.masking, arch.steps, objective.mask_ratio
    )
    predictions = model.decoder(model.encoder(clips, visible), visible, masked)
    targets = to_unit(take_tokens(target_patches(clips, arch), masked))  # [B, m, u'·p·p, C]
    _, means, deviations = normalise_patches(targets)
    if objective.norm_targets:
        predictions = predictions * deviations + means
    return Hidden(masked, targets, jnp.clip(predictions, 0, 1), means)


@compiled
def clip_metrics(
    params: dict, batch: Batch, *, arch: Architecture, objective: EchoFMObjective
) -> dict[str, jax.Array]:
    """Loss terms and PSNR of each clip, {name: [B]}.

    Batch: `clip` and `noise` as in training, and `sector` [B, H, W] bool. `psnr` (dB, peak 1) is
    over the hidden pixels inside the sector: what is black anyway is no achievement.
    """

    def losses(clip: jax.Array, noise: jax.Array) -> dict[str, jax.Array]:
        one = {"clip": clip[None], "noise": noise[None]}
        return loss_and_metrics(params, one, arch, objective)[1]

    hidden = hidden_patches(bind(arch, params), batch, arch, objective)
    sector = jnp.repeat(batch["sector"][:, None, ..., None], arch.frames, 1)  # [B, T, H, W, 1]
    inside = take_tokens(target_patches(sector, arch), hidden.masked)  # [B, m, u'·p·p, 1]
    found = jax.vmap(losses)(batch["clip"], batch["noise"])
    for name, guess in (("", hidden.predictions), ("_patch_mean", hidden.means)):
        found[f"psnr{name}"] = psnr(guess, hidden.targets, inside)
        found[f"ssim{name}"] = ssim(batch["clip"], hidden.masked, guess, inside, arch)
    return found


def psnr(predictions: jax.Array, targets: jax.Array, inside: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of pixels in [0, 1], [B, ...] → [B], where `inside`."""
    axes = tuple(range(1, targets.ndim))
    error = (predictions - targets) ** 2
    weight = jnp.broadcast_to(inside, error.shape)
    return -10 * jnp.log10((error * weight).sum(axes) / jnp.maximum(weight.sum(axes), 1))


def ssim(
    clips: jax.Array, masked: jax.Array, guess: jax.Array, inside: jax.Array, arch: Architecture
) -> jax.Array:
    """Structural similarity [B] of grey frames whose hidden patches were guessed.

    Wang et al. 2004: Gaussian window of 11 pixels, σ 1.5, peak 1; the mean over the pixels of
    hidden patches that lie `inside` [B, m, u'·p·p, 1] the sector and a window's half from the edge.

    Args:
      clips: [B, T, H, W(, C)] uint8.
      masked: [B, m] hidden tokens.
      guess: [B, m, u'·p·p or 1, C or 1] of them, pixels in [0, 1].
      inside: which of their pixels count.
      arch: of the model that guessed.
    """
    grey = to_unit(with_channels(jnp.asarray(clips))).mean(-1, keepdims=True)  # [B, T, H, W, 1]
    original = target_patches(grey, arch)  # [B, t·L, u'·p·p, 1]
    rows = jnp.arange(len(original))[:, None]
    guess = jnp.broadcast_to(guess.mean(-1, keepdims=True), inside.shape)
    counted = jnp.zeros(original.shape).at[rows, masked].set(inside)
    shown, made, counted = (
        unpatchify(patches, arch.steps, arch.pred_tubelet, arch.patch)
        for patches in (original, original.at[rows, masked].set(guess), counted)
    )  # [B, u'·t, H, W, 1] each
    windows = jax.vmap(partial(dm_pix.ssim, return_map=True))
    similar = windows(shown, made)[..., 0]  # [B, u'·t, H - 10, W - 10]
    weight = counted[..., 5:-5, 5:-5, 0]
    return (similar * weight).sum((1, 2, 3)) / jnp.maximum(weight.sum((1, 2, 3)), 1)


@compiled
def prior_agreement(
    params: dict, clips: jax.Array, *, arch: Architecture, objective: EchoFMObjective
) -> tuple[jax.Array, jax.Array]:
    """Pearson r [B] between embedding and pixel similarity of all pairs of steps, and z.

    Of the similarity that the objective trains.
    """
    z = encode(params, clips, arch=arch).frames
    pairs = np.triu_indices(arch.steps, 1)
    a = self_similarity(z, objective.embedding_alpha)[:, *pairs]  # [B, t(t-1)/2]
    b = pixel_prior(clips, arch.tubelet, objective.prior_alpha)[:, *pairs]
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return (a * b).sum(1) / jnp.sqrt((a**2).sum(1) * (b**2).sum(1)), z


def effective_rank(z: np.ndarray) -> float:
    """Directions that embeddings [n, D] spread over: exp of their spectrum's entropy.

    Roy and Vetterli 2007, on centred embeddings: 1 is collapse to a line, at most min(n - 1, D).
    """
    spectrum = np.linalg.svd(z - z.mean(axis=0), compute_uv=False)
    share = spectrum[spectrum > 0] / spectrum.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


@compiled
def reconstruction_frames(
    params: dict, batch: Batch, *, arch: Architecture, objective: EchoFMObjective
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Grey target frames [B, pred_frames, H, W]: original, hidden patches nan, hidden predicted."""
    hidden = hidden_patches(bind(arch, params), batch, arch, objective)
    original = to_unit(target_patches(with_channels(batch["clip"]), arch)).mean(-1, keepdims=True)
    rows = jnp.arange(len(original))[:, None]
    predicted = hidden.predictions.mean(-1, keepdims=True)
    views = (
        original,
        original.at[rows, hidden.masked].set(jnp.nan),
        original.at[rows, hidden.masked].set(predicted),
    )
    return tuple(
        unpatchify(patches, arch.steps, arch.pred_tubelet, arch.patch)[..., 0] for patches in views
    )


def measure_clips(
    models: dict[str, dict], batches: Iterable[dict], arch: Architecture, objective: EchoFMObjective
) -> dict[str, np.ndarray]:
    """All held-out clips: {name: [n], one figure a clip, or a scalar of them all}.

    Args:
      models: {"model": parameters, ...}; losses and PSNR are the model's, the prior agreement
        and the effective rank of every one's embeddings.
      batches: a loader's, with `sector` (see `clip_metrics`).
      arch: of all models.
      objective: of the losses.
    """
    method = {"arch": arch, "objective": objective}
    rows, embeddings = [], {name: [] for name in models}
    for batch in tqdm(batches, desc="clips", disable=None):
        valid = batch["valid"]
        row = {"index": batch["index"]}
        row |= clip_metrics(models["model"], {k: batch[k] for k in INPUTS}, **method)
        for name, params in models.items():
            row[f"prior_agreement_{name}"], z = prior_agreement(params, batch["clip"], **method)
            embeddings[name].append(np.asarray(z)[valid].reshape(-1, arch.width))
        rows.append({name: np.asarray(value)[valid] for name, value in row.items()})
    figures = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    for name, z in embeddings.items():
        figures[f"effective_rank_{name}"] = effective_rank(np.concatenate(z))
    return figures
