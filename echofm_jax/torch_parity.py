"""The same clip through JAX and PyTorch: how far apart the two models are."""

import dataclasses
import functools
import logging

import jax
import numpy as np
import torch
from ml_collections import ConfigDict

from echofm_jax.architecture import Architecture
from echofm_jax.encode import encode
from echofm_jax.errors import InputError
from echofm_jax.masking import split_tokens
from echofm_jax.model import bind
from echofm_jax.pytorch import EchoFM
from echofm_jax.pytorch.modeling_echoapex import EchoApexConfig

MASK_RATIO = 0.75
log = logging.getLogger(__name__)


def differences(ours: dict[str, np.ndarray], model: EchoFM, clip: np.ndarray) -> dict[str, float]:
    """Relative difference ‖PyTorch − JAX‖ / ‖JAX‖ of every output, on the CPU.

    Args:
      ours: `jax_outputs` of the clip.
      model: the same weights in PyTorch, of any dtype.
      clip: [1, T, H, W] or [1, T, H, W, 3] uint8.

    Returns:
      `tokens`, `frames` and `video` of the whole clip, `pixels` predicted from a masked one.
    """
    mask = np.ones((1, model.config.steps * model.config.positions), bool)
    mask[0, ours["visible"][0]] = False
    with torch.inference_mode():
        clips = model.preprocess(clip)
        outputs = model.encode(clips)._asdict()
        outputs["pixels"] = model.reconstruct(clips, torch.from_numpy(mask)).pred
    return relative({name: x.float().numpy() for name, x in outputs.items()}, ours)


def relative(theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray]) -> dict[str, float]:
    """‖theirs − ours‖ / ‖ours‖ of each output of theirs."""
    return {
        name: float(np.linalg.norm(theirs[name] - ours[name]) / np.linalg.norm(ours[name]))
        for name in theirs
    }


def jax_outputs(params: dict, arch: Architecture, clip: np.ndarray) -> dict[str, np.ndarray]:
    """What JAX makes of a clip in float32, and `visible`, the tokens that it saw for `pixels`."""
    noise = np.random.default_rng(0).random((1, arch.positions), np.float32)
    exact = dataclasses.replace(arch, dtype="float32", remat="none")
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.default_device(cpu), jax.default_matmul_precision("highest"):
        return jax.device_get(_run_jax(params, clip, noise, exact))


def synthetic_clip(arch: Architecture | EchoApexConfig) -> np.ndarray:
    """[1, T, H, W] uint8: a textured ring that beats twice; the same every time."""
    time = np.arange(arch.frames)[:, None, None] / arch.frames  # [T, 1, 1]
    y, x = np.mgrid[0 : arch.size, 0 : arch.size] / arch.size - 0.5  # [H, W]
    radius = 0.25 + 0.08 * np.cos(4 * np.pi * time)
    wall = np.exp(-(((np.hypot(x, y) - radius) / 0.06) ** 2))
    texture = 0.6 + 0.4 * np.sin(60 * x + 6 * np.pi * time) * np.sin(50 * y)
    return (255 * wall * texture).astype(np.uint8)[None]


def held_out_batch(config: ConfigDict) -> dict[str, np.ndarray] | None:
    """The first held-out sample of the workdir's data, a batch of 1; None where there is none."""
    if not config.data.dir:
        return None
    from data_pipelines import mixture
    from data_pipelines.loader import make_loader
    from echofm_jax.evaluate import choose_split
    from echofm_jax.train import loader_config

    try:
        split = choose_split(mixture.dataset_info(config.data.dir).records, None, config.data.dir)
        loader = make_loader(
            loader_config(config, split=split, shuffle=False, num_epochs=1, batch_size=1)
        )
        batch = next(loader)
    except InputError as error:
        log.warning("nothing held out to compare on: %s", error)
        return None
    loader.close()
    return batch


@functools.partial(jax.jit, static_argnames="arch")
def _run_jax(params: dict, clip: jax.Array, noise: jax.Array, arch: Architecture) -> dict:
    model = bind(arch, params)
    visible, masked = split_tokens(noise, "consistent", arch.steps, MASK_RATIO)
    pixels = model.decoder(model.encoder(clip, visible), visible, masked, all_tokens=True)
    return encode(params, clip, arch=arch)._asdict() | {
        "visible": visible,
        "pixels": pixels.reshape(*pixels.shape[:2], -1),  # [1, t·L, u'·p·p·3]
    }
