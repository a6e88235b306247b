"""Our numbers against the official DINOv2 code's, for every golden in `$ECHOFM_DINO_GOLDENS`.

A golden is a JSON with a safetensors file beside it; nothing here knows their names or shapes.
Float32 throughout. Gradients have the allowances of test_reference_parity.py, for its reason.
"""

import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from echofm_jax.dino_head import prototype_scores
from echofm_jax.dinov2_losses import centred, sinkhorn
from echofm_jax.dinov2_weights import from_state, head_from_state, head_to_state, to_state
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.image_model import bind
from echofm_jax.student_teacher import student_teacher_losses

HERE = Path(__file__).parents[2] / "shared" / "goldens" / "dinov2"
GOLDENS = Path(os.environ.get("ECHOFM_DINO_GOLDENS", HERE))
CASES = [pytest.param(path, id=path.stem) for path in sorted(GOLDENS.glob("*.json"))]
if not CASES:
    pytest.skip(f"no goldens: set ECHOFM_DINO_GOLDENS ({GOLDENS})", allow_module_level=True)
HEADS = ("dino_head", "ibot_head")
MOMENTUM = 0.9  # of the centres


class Golden:
    """One reference case: settings, inputs, parameters and expected numbers."""

    def __init__(self, path: Path):
        self.settings = settings = json.loads(path.read_text())
        self.tensors = load_file(path.with_suffix(".safetensors"))
        ffn = settings.get("ffn_layer", "mlp")
        self.arch = ImageArchitecture(
            width=settings["embed_dim"],
            depth=settings["depth"],
            heads=settings["num_heads"],
            mlp_ratio=settings.get("mlp_ratio", 4.0),
            ffn="swiglu" if ffn.startswith("swiglu") else ffn,
            patch=settings["patch_size"],
            size=settings["global_size"],
            registers=settings.get("num_register_tokens", 0),
            layer_scale=settings.get("layerscale") or 0.0,
        )
        self.images, self.locals = settings["batch"], settings["n_local"]
        self.student, self.teacher = (self.params(name) for name in ("student.", "teacher."))

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """The tensors below a prefix, the prefix removed."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    def params(self, prefix: str) -> dict:
        heads = {name: self.group(f"{prefix}{name}.") for name in HEADS}
        params = {name: head_from_state(state) for name, state in heads.items() if state}
        backbone = from_state(self.group(f"{prefix}backbone."), self.arch, "official")
        return params | {"backbone": backbone}

    def by_image(self, x: np.ndarray) -> np.ndarray:
        """[crops·B, ...], all images' first crop in front → [B, crops, ...]."""
        crops = len(x) // self.images
        return x.reshape(crops, self.images, *x.shape[1:]).swapaxes(0, 1)

    @property
    def batch(self) -> dict[str, np.ndarray]:
        """The batch as the objective would give it."""
        none = np.zeros((0, 3, self.arch.patch, self.arch.patch), np.float32)
        batch = {
            name: self.by_image(self.tensors.get(f"input.{name}", none).transpose(0, 2, 3, 1))
            for name in ("global", "local")
        }
        return batch | {"mask": self.by_image(self.tensors["input.masks"])}

    @property
    def losses(self) -> functools.partial:
        """`student_teacher_losses` with this golden's settings."""
        settings = self.settings
        return functools.partial(
            student_teacher_losses,
            arch=self.arch,
            centers={
                name: jnp.ravel(self.tensors[f"input.{name}"])
                for name in ("dino_center", "ibot_center")
            },
            centering=settings["centering"],
            most_masked=max(1, int(self.batch["mask"].sum((1, 2)).max())),
            teacher_temperature=settings["teacher_temp"],
            student_temperature=settings["student_temp"],
            koleo_weight=settings["koleo_weight"],
            dino_weight=settings.get("dino_weight", 1.0),
            ibot_weight=settings.get("ibot_weight", 1.0),
        )


def crop_major(x: jax.Array) -> jax.Array:
    """[B, crops, ...] → [crops·B, ...]."""
    return x.swapaxes(0, 1).reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def forward(case: Golden, student: dict, teacher: dict, batch: dict) -> dict:
    """Every `output.*` a golden may hold."""
    images = {name: crop_major(batch[name]) for name in ("global", "local")}
    masks = crop_major(batch["mask"])
    loss, terms, seen = case.losses(student, teacher, batch)
    teach, learn = bind(case.arch, teacher["backbone"]), bind(case.arch, student["backbone"])
    outputs = {"loss": loss} | {f"loss_{name}": value for name, value in terms.items()}
    tokens = {
        "teacher": teach(images["global"]),
        "student_global": learn(images["global"], masks),
    }
    if case.locals:
        tokens["student_local"] = learn(images["local"])
    for name, (cls, patch) in tokens.items():
        outputs |= {f"{name}_cls": cls, f"{name}_patch": patch}
    for name, mean in seen.items():
        outputs[name] = MOMENTUM * case.tensors[f"input.{name}"].ravel() + (1 - MOMENTUM) * mean
    return outputs


def teacher_targets(case: Golden, cls: np.ndarray, patch: np.ndarray) -> dict:
    """Targets from the teacher's tokens, in the order of the goldens."""
    masks = case.tensors["input.masks"]
    tokens = {"cls": jnp.asarray(cls), "patch": jnp.asarray(patch[masks])}
    found = {}
    for name, head, center in (
        ("cls", "dino_head", "dino_center"),
        ("patch", "ibot_head", "ibot_center"),
    ):
        params = case.teacher.get(head, case.teacher["dino_head"])
        logits = prototype_scores(params, tokens[name], "float32")
        if case.settings["centering"] == "centering":
            before = case.tensors[f"input.{center}"].ravel()
            rows = centred(logits, before, case.settings["teacher_temp"])
        else:
            every = jnp.ones(len(logits), bool)
            rows = sinkhorn(logits, case.settings["teacher_temp"], every)
        found[f"teacher_{name}_targets"] = rows
    both = found["teacher_cls_targets"].reshape(2, case.images, -1)
    return found | {"teacher_cls_targets": both[::-1]}


def relative(ours, theirs) -> float:
    """‖a − b‖ / ‖b‖; where b is all zero, ‖a‖."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    norm = np.linalg.norm(theirs)
    return float(np.linalg.norm(ours.reshape(theirs.shape) - theirs) / (norm or 1.0))


@functools.cache
def golden(path: Path) -> Golden:
    return Golden(path)


@pytest.mark.parametrize("path", CASES)
def test_outputs(path):
    case = golden(path)
    expected = case.group("output.")
    assert expected, f"{path.stem} holds no output to compare"
    ours = jax.jit(functools.partial(forward, case))(case.student, case.teacher, case.batch)
    ours |= teacher_targets(case, ours["teacher_cls"], np.asarray(ours["teacher_patch"]))
    for name, theirs in expected.items():
        assert relative(ours[name], theirs) <= 1e-5, name


@pytest.mark.parametrize("path", CASES)
def test_gradients(path):
    case = golden(path)

    def loss(student: dict) -> jax.Array:
        return case.losses(student, case.teacher, case.batch)[0]

    grads = jax.jit(jax.grad(loss))(case.student)
    ours = to_state(grads["backbone"], case.arch, "official")
    ours = {f"backbone.{key}": value for key, value in ours.items()}
    for head in HEADS:
        of_head = head_to_state(grads[head]) if head in grads else {}
        ours |= {f"{head}.{key}": value for key, value in of_head.items()}
    theirs = case.group("grad.")
    total = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in theirs.values()))
    assert theirs
    for key, b in theirs.items():
        distance = np.linalg.norm(ours[key] - b)
        assert distance <= 1e-4 * np.linalg.norm(b) + 1e-7 * total, key
    for key in case.settings.get("no_gradient", []):
        assert np.linalg.norm(ours[key]) <= 1e-7 * total, key
