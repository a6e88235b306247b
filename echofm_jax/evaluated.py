"""What an evaluation asks of a model, whichever objective it learned by.

Clips are sampled, embedded and drawn by the model's own kind; what is then measured of their
embeddings is the same for all.
"""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from echofm_jax import config as configs
from echofm_jax import image_encode
from echofm_jax.architecture import Architecture
from echofm_jax.encode import encode
from echofm_jax.evaluation_figures import draw_figures, draw_recordings
from echofm_jax.held_out import effective_rank, measure_clips
from echofm_jax.held_out_recordings import HeldOut
from echofm_jax.image_architecture import ImageArchitecture

# What windows an image model is evaluated on: those of smoke.py, so that steps compare.
IMAGE_WINDOW = {"frames": 32, "tubelet": 4, "window_seconds": 1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A kind of model, as `evaluate` uses it; `params` are its parameters."""

    arch: Architecture  # of its windows and steps; of an image model nothing else
    loader_fields: dict  # of a LoaderConfig
    init: Callable[[jax.Array], dict]  # key → random parameters
    embed: Callable  # (params, clips) → frame embeddings [B, t, D], what heads read [B, t, F]
    measure: Callable[[dict, Iterable], dict]  # ({name: params}, batches) → figures of clips
    draw: Callable[[Path, dict, dict, HeldOut, str, bool], None]  # as `draw_figures`


def evaluated(config: ConfigDict) -> Evaluated:
    """The kind of model of a workdir's config."""
    arch, objective = configs.anywhere(config), configs.objective(config)
    init = jax.jit(partial(objective.init_params, arch))
    if config.method == "echofm":
        method = {"arch": arch, "objective": objective}
        return Evaluated(
            arch=arch,
            loader_fields={},
            init=init,
            embed=jax.jit(partial(embed_clips, arch=arch)),
            measure=partial(measure_clips, **method),
            draw=partial(draw_figures, **method),
        )
    window = Architecture(
        width=arch.width, size=arch.size, patch=arch.patch,
        frames=IMAGE_WINDOW["frames"], tubelet=IMAGE_WINDOW["tubelet"],
    )  # fmt: skip
    fields = IMAGE_WINDOW | {"crops": None, "size": arch.size, "patch": arch.patch}
    embed = jax.jit(partial(embed_frames, arch=arch, window=window))
    return Evaluated(
        arch=window,
        loader_fields=fields,
        init=init,
        embed=embed,
        measure=partial(measure_embeddings, embed=embed),
        draw=partial(draw_recordings, tubelet=window.tubelet),
    )


def embed_clips(params: dict, clips: jax.Array, *, arch: Architecture) -> tuple:
    """Frame embeddings [B, t, D] of clips, and the mean of each step's tokens [B, t, D]."""
    found = encode(params, clips, arch=arch)
    tokens = found.tokens.reshape(len(clips), arch.steps, arch.positions, -1)  # [B, t, L, D]
    return found.frames, tokens.mean(2)


def embed_frames(
    params: dict, clips: jax.Array, *, arch: ImageArchitecture, window: Architecture
) -> tuple:
    """The same of an image model: means over the frames of each step."""
    found = image_encode.encode(params, clips, arch=arch)
    steps = (len(clips), window.steps, window.tubelet)
    tokens = found.tokens.reshape(*steps, window.positions, -1)  # [B, t, u, N, D]
    return found.frames.reshape(*steps, -1).mean(2), tokens.mean((2, 3))


def measure_embeddings(
    models: dict[str, dict], batches: Iterable[dict], embed: Callable
) -> dict[str, np.ndarray]:
    """Of held-out clips: which records they are of, and the effective rank of their embeddings."""
    index, found = [], {name: [] for name in models}
    for batch in batches:
        valid = batch["valid"]
        index.append(batch["index"][valid])
        for name, params in models.items():
            z, _ = embed(params, batch["clip"])
            found[name].append(np.asarray(z)[valid].reshape(-1, z.shape[-1]))
    ranks = {
        f"effective_rank_{name}": effective_rank(np.concatenate(z)) for name, z in found.items()
    }
    return {"index": np.concatenate(index), **ranks}
