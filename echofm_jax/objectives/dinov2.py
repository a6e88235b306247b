"""DINOv2's objective, as EchoApex pre-trains with it: a student learns from its own average.

What the loop has to know of it; the losses are student_teacher.py and dinov2_losses.py. Defaults
are the official code's, but for `centering`: Sinkhorn-Knopp is the paper's, and what the official
configs of ViT-L and g for large batches choose. Epochs are those of the recipe (`optim.epochs`).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from data_pipelines.crop_masks import most_masked
from data_pipelines.crops import Crops
from echofm_jax.dino_head import init_head
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.image_model import init_params, normalised
from echofm_jax.optimizer import cosine
from echofm_jax.patches import CHANNELS
from echofm_jax.perf import image_step_flops
from echofm_jax.student_teacher import GLOBAL_CROPS, student_teacher_losses

CENTER_MOMENTUM = 0.9
HEADS = ("dino_head", "ibot_head")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DINOv2Objective:
    """Weights, choices and schedules of the loss, and sizes of its heads."""

    prototypes: int = 65536
    hidden: int = 2048  # of the heads
    bottleneck: int = 256
    separate_head: bool = False  # patches have a head of their own
    centering: str = "sinkhorn_knopp"  # or `centering`
    student_temp: float = 0.1
    teacher_temp: float = 0.07
    warmup_teacher_temp: float = 0.04  # at first; linearly, over so many epochs:
    warmup_teacher_temp_epochs: float = 30.0
    momentum: float = 0.992  # of the teacher, at first; 1 in the end, along a cosine
    dino_weight: float = 1.0
    ibot_weight: float = 1.0
    koleo_weight: float = 0.1
    freeze_last_layer_epochs: float = 1.0  # prototypes do not learn before
    layer_decay: float = 0.9  # of the learning rate, a block further from the heads
    patch_embed_rate: float = 0.2  # times that of the first layer
    # Crops, which the loader makes (data_pipelines/crops.py); a global one is `model.size` wide.
    local_size: int = 98
    local_crops: int = 8
    global_scale: tuple[float, float] = (0.32, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.32)
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    other_frame: bool = False  # crops of two frames of a clip are views of one another
    gain: float = 0.4
    gamma: float = 0.4
    blur: float = 2.0
    speckle: float = 0.2

    SHAPES = ("prototypes", "hidden", "bottleneck", "separate_head", "centering")  # of the state
    CLIPPED_APART = True  # backbone and heads, as in the official code

    def crops(self, arch: ImageArchitecture) -> Crops:
        """What the loader cuts."""
        return Crops(
            global_size=arch.size,
            patch=arch.patch,
            local_size=self.local_size,
            local_crops=self.local_crops,
            global_scale=self.global_scale,
            local_scale=self.local_scale,
            mask_ratio=self.mask_ratio,
            other_frame=self.other_frame,
            gain=self.gain,
            gamma=self.gamma,
            blur=self.blur,
            speckle=self.speckle,
        )

    def problems(self, arch: ImageArchitecture, config: ConfigDict) -> list[str]:
        """What is impossible about these numbers; empty if nothing."""
        own, counts = vars(self), ("prototypes", "hidden", "bottleneck")
        above = ("student_temp", "teacher_temp", "warmup_teacher_temp", "layer_decay")
        shares = ("momentum", "layer_decay", "patch_embed_rate")
        told = [f"{name}={own[name]} must be at least 1" for name in counts if own[name] < 1]
        told += [f"{name}={own[name]} must be above 0" for name in above if not own[name] > 0]
        told += [f"{name}={own[name]} is not in [0, 1]" for name in shares
                 if not 0 <= own[name] <= 1]  # fmt: skip
        # A global crop's numbers are the model's, and named there.
        told += [text.removeprefix("crops.").replace("crops.patch", "model.patch")
                 for text in self.crops(arch).problems()
                 if not text.startswith(("crops.global_size", "crops.patch"))]  # fmt: skip
        batch, parts, ema = config.data.batch_size, config.optim.accumulate, config.optim.ema
        rules = [
            (batch < 2, f"data.batch_size={batch}: KoLeo and Sinkhorn-Knopp compare images: choose "
             "more"),
            (parts > 1, f"optim.accumulate={parts}: the prototypes are shared out over a whole "
             "batch: choose 1"),
            (ema > 0, f"optim.ema={ema}: the teacher is the average: choose 0"),
        ]  # fmt: skip
        return [f"objective.{text}" for text in told] + [text for wrong, text in rules if wrong]

    def init_params(self, arch: ImageArchitecture, key: jax.Array) -> dict:
        """The student: backbone and heads."""
        keys = jax.random.split(key, 3)
        sizes = (arch.width, self.hidden, self.bottleneck, self.prototypes)
        heads = HEADS[: 1 + self.separate_head]
        return {
            "backbone": init_params(arch, keys[0]),
            **{name: init_head(*sizes, key) for name, key in zip(heads, keys[1:], strict=False)},
        }

    def init_own(self, params: dict) -> dict:
        """The teacher, equal to the student at first, and what its answers are on average."""
        centers = {}
        if self.centering == "centering":
            centers = {f"{name}_center": jnp.zeros(self.prototypes) for name in ("dino", "ibot")}
        return {"teacher": jax.tree.map(jnp.copy, params), **centers}

    def batch(
        self, arch: ImageArchitecture, batch_size: int, colour: bool
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """Crops [B, crops, s, s(, 3)], masks [B, 2, N] of the global ones, drop path's seeds."""
        channels = (CHANNELS,) * colour
        shapes = {
            "global": ((GLOBAL_CROPS, arch.size, arch.size, *channels), jnp.uint8),
            "local": ((self.local_crops, self.local_size, self.local_size, *channels), jnp.uint8),
            "mask": ((GLOBAL_CROPS, arch.positions), jnp.bool_),
            "seed": ((), jnp.uint32),
        }
        return {
            name: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
            for name, (shape, dtype) in shapes.items()
        }

    def loader_fields(self, arch: ImageArchitecture, data: ConfigDict) -> dict:
        """Crops of single frames."""
        return {"crops": self.crops(arch)}

    def loss(
        self, params: dict, batch: dict, *, arch: ImageArchitecture, own: dict,
        at_use: Callable | None, time: tuple,
    ) -> tuple[jax.Array, dict]:  # fmt: skip
        """DINO of the crops, iBOT of the masked patches, KoLeo."""
        warm = jnp.clip(time.epoch / max(self.warmup_teacher_temp_epochs, 1e-9), 0, 1)
        began = self.warmup_teacher_temp
        total, terms, seen = student_teacher_losses(
            params,
            own["teacher"],
            batch | {name: normalised(batch[name]) for name in ("global", "local")},
            arch,
            centers={name: own[name] for name in own if name != "teacher"},
            centering=self.centering,
            most_masked=max(1, most_masked(arch.positions, self.mask_ratio)),
            teacher_temperature=began + (self.teacher_temp - began) * warm,
            student_temperature=self.student_temp,
            dino_weight=self.dino_weight,
            ibot_weight=self.ibot_weight,
            koleo_weight=self.koleo_weight,
            at_use=at_use,
        )
        return total, {"loss": total, **terms, "seen": seen}

    def at_rest(self, arch: ImageArchitecture) -> ImageArchitecture:
        """Without drop path."""
        return dataclasses.replace(arch, drop_path=0.0)

    def after_update(self, own: dict, params: dict, seen: dict, time: tuple) -> dict:
        """The teacher follows the student, the averages follow the teacher."""
        momentum = cosine(time.epoch, start=self.momentum, end=1.0, steps=time.epochs)
        teacher = jax.tree.map(
            lambda t, s: momentum * t + (1 - momentum) * s, own["teacher"], params
        )
        centers = {
            name: CENTER_MOMENTUM * own[name] + (1 - CENTER_MOMENTUM) * mean
            for name, mean in seen.items()
        }
        return {"teacher": teacher, **centers}

    def rates(self, arch: ImageArchitecture) -> Callable:
        """Slower the further from the heads; the prototypes stand still at first."""

        def of_each(params: dict, time: tuple) -> dict:
            return jax.tree.map_with_path(lambda path, x: self._rate(arch, path, x, time), params)

        return of_each

    def _rate(self, arch: ImageArchitecture, path: tuple, x: jax.Array, time: tuple) -> jax.Array:
        names = [key.key for key in path]
        if names[0] in HEADS:
            learns = time.epoch >= self.freeze_last_layer_epochs
            return jnp.where(learns, 1.0, 0.0) if names[1] == "last" else jnp.ones(())
        if names[1] == "blocks":
            layers = jnp.arange(1, arch.depth + 1).reshape(-1, *[1] * (x.ndim - 1))
            return self.layer_decay ** (arch.depth + 1.0 - layers)  # [depth, 1, …]
        if names[1] == "norm":
            return jnp.ones(())
        first = self.layer_decay ** (arch.depth + 1)
        return jnp.asarray(first * (self.patch_embed_rate if names[1] == "patch_embed" else 1.0))

    def step_flops(self, arch: ImageArchitecture) -> float:
        """Forward and backward of one image's crops, and the teacher's forward."""
        return image_step_flops(arch, self)
