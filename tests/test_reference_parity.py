"""Our numbers against the official implementation's, for every golden in `$ECHOFM_GOLDENS`.

A golden is a JSON with a safetensors file beside it; nothing here knows their names or shapes.
Float32 throughout. Key biases have no true gradient (softmax is blind to them), hence the
absolute allowance of 1e-7 of the global gradient norm.
"""

import functools
import json
import os
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from echofm_jax.architecture import Architecture
from echofm_jax.losses import pixel_prior
from echofm_jax.masking import split_tokens, token_mask
from echofm_jax.model import bind
from echofm_jax.objectives import echofm as objectives
from echofm_jax.objectives.echofm import EchoFMObjective
from echofm_jax.optimizer import adamw, learning_rate
from echofm_jax.torch_weights import MODEL_ARGS, from_torch, to_torch

GOLDENS = Path(os.environ.get("ECHOFM_GOLDENS", Path(__file__).parents[2] / "shared" / "goldens"))
CASES = sorted(GOLDENS.glob("*.json"))
if not CASES:
    pytest.skip(f"no goldens: set ECHOFM_GOLDENS (looked in {GOLDENS})", allow_module_level=True)

STANDARD = {  # the official constructors' sizes, by name
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "huge": {"width": 1280, "depth": 32, "heads": 16},
}


class Golden:
    """One reference case: settings, inputs, parameters and expected numbers."""

    def __init__(self, path: Path):
        self.settings = json.loads(path.read_text())
        self.tensors = load_file(path.with_suffix(".safetensors"))
        settings, sizes = self.settings, {}
        if "model" in settings:
            kind, patch = settings["model"].removeprefix("vit_").split("_patch")
            sizes = STANDARD[kind] | {"patch": int(patch)}
        sizes |= {
            ours: settings[theirs] for theirs, ours in MODEL_ARGS.items() if theirs in settings
        }
        self.arch = Architecture(**sizes)
        get = settings.get
        self.objective = EchoFMObjective(
            norm_targets=get("norm_pix_loss", False),
            prior={"pixel": "pixel", "embed": "embedding"}[get("phase_prior", "pixel")],
            prior_alpha=get("prior_center_alpha", 1.0),
            triplet_weight=get("triplet_weight", 1.0),
            triplet_margin=get("triplet_margin", 0.2),
            cycle_weight=get("cycle_weight", 1.0),
            cycle_tau=get("cycle_tau", 0.1),
            mask_ratio=settings["mask_ratio"],
        )
        self.params = from_torch(self.state_dict(), self.arch)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Official parameters: stored, or made by the formula."""
        if "keys" in self.settings:
            return {key: formula(key, tuple(s)) for key, s in self.settings["keys"].items()}
        return self.group("param.")

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """The tensors below a prefix, the prefix removed."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    @property
    def batch(self) -> dict[str, np.ndarray]:
        """The batch as the loader would give it."""
        if "input.imgs" in self.tensors:
            clip = self.tensors["input.imgs"].transpose(0, 2, 3, 4, 1)  # [N, T, H, W, 3]
        else:
            clip = self.tensors["input.imgs_gray_uint8"][:, 0]  # [N, T, H, W] uint8
        return {"clip": clip, "noise": self.tensors["input.mask_noise"]}


def formula(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of the full-resolution goldens, as their README defines them."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    value = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    ends = ("norm.weight", "norm1.weight", "norm2.weight")
    return value + np.float32(1) if key.endswith(ends) else value


def forward(params: dict, batch: dict, arch: Architecture, objective: EchoFMObjective) -> dict:
    """Every `output.*` a golden may hold."""
    model = bind(arch, params)
    loss, terms = objectives.loss_and_metrics(params, batch, arch, objective)
    visible, masked = split_tokens(batch["noise"], "consistent", arch.steps, objective.mask_ratio)
    every, _ = split_tokens(batch["noise"], "consistent", arch.steps, 0.0)
    latent = model.encoder(batch["clip"], visible)
    whole = model.encoder(batch["clip"], every)
    z = model.projector(latent, visible)
    pred = model.decoder(latent, visible, masked, all_tokens=True)
    return {
        "latent": latent,
        "mask": token_mask(visible, arch.tokens),
        "cls_stack": z,
        "pred": pred.reshape(*pred.shape[:2], -1),
        "prior_sim": pixel_prior(batch["clip"], arch.tubelet, objective.prior_alpha),
        "latent_unmasked": whole,
        "latent_unmasked_mean": whole.mean(1),
        "cls_stack_unmasked": model.projector(whole, every),
        "loss": loss,
        "recon": terms["recon"],
        "triplet": terms["triplet"],
        "cycle": terms["cycle"],
        "triplet_active": terms["triplet_active"],
    }


def relative(ours, theirs) -> float:
    """‖a − b‖ / ‖b‖; where b is all zero, ‖a‖."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    norm = np.linalg.norm(theirs)
    return float(np.linalg.norm(ours.reshape(theirs.shape) - theirs) / (norm or 1.0))


@functools.cache
def golden(path: Path) -> Golden:
    return Golden(path)


def cases(prefix: str) -> list:
    """Parameters for the goldens that hold tensors whose names begin so."""
    found = []
    for path in CASES:
        with safe_open(path.with_suffix(".safetensors"), "np") as tensors:
            if any(name.startswith(prefix) for name in tensors.keys()):  # noqa: SIM118
                found.append(pytest.param(path, id=path.stem))
    return found


@pytest.mark.parametrize("path", cases("output."))
def test_outputs(path):
    case = golden(path)
    limit = 5e-5 if "keys" in case.settings else 1e-5
    expected = case.group("output.")
    assert expected, f"{path.stem} holds no output to compare"
    ours = jax.jit(forward, static_argnums=(2, 3))(
        case.params, case.batch, case.arch, case.objective
    )
    for name, theirs in expected.items():
        stride = case.settings.get("strides", {}).get(name)
        got = ours[name][:, ::stride] if stride else ours[name]
        assert relative(got, theirs) <= limit, name


@pytest.mark.parametrize("path", cases("grad."))
def test_gradients(path):
    case = golden(path)
    gradient = jax.jit(jax.grad(objectives.loss_and_metrics, has_aux=True), static_argnums=(2, 3))
    ours, _ = gradient(case.params, case.batch, case.arch, case.objective)
    ours, theirs = to_torch(ours, case.arch), case.group("grad.")
    total = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in theirs.values()))
    assert theirs
    for key, b in theirs.items():
        distance = np.linalg.norm(ours[key] - b)
        assert distance <= 1e-4 * np.linalg.norm(b) + 1e-7 * total, key
    for key in case.settings.get("no_gradient", []):
        assert np.linalg.norm(ours[key]) <= 1e-7 * total, key


@pytest.mark.parametrize("path", cases("param_after."))
def test_three_adamw_steps(path):
    case = golden(path)
    hyper = case.settings["optimizer"]
    epochs = jnp.asarray(hyper["epochs_at_step"])

    def schedule(count):
        return learning_rate(
            epochs[count], peak=hyper["lr"], minimum=hyper["min_lr"],
            warmup=hyper["warmup_epochs"], epochs=hyper["epochs"],
        )  # fmt: skip

    optimizer = adamw(
        schedule,
        clip_norm=hyper["clip_grad_norm"],
        weight_decay=hyper["weight_decay"],
        b1=hyper["betas"][0],
        b2=hyper["betas"][1],
    )
    gradient = jax.jit(
        jax.value_and_grad(objectives.loss_and_metrics, has_aux=True), static_argnums=(2, 3)
    )
    params, state = case.params, optimizer.init(case.params)
    for step, expected in enumerate(case.settings["losses"]):
        (loss, _), grads = gradient(params, case.batch, case.arch, case.objective)
        assert relative(loss, expected) <= 1e-5, f"loss of step {step}"
        norm = float(optax.tree.norm(grads))
        assert relative(norm, case.settings["grad_norms"][step]) <= 1e-4
        assert relative(schedule(step), case.settings["lrs"][step]) <= 1e-6
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    ours, theirs = to_torch(params, case.arch), case.group("param_after.")
    assert theirs
    for key, b in theirs.items():
        assert relative(ours[key], b) <= 1e-4, key
