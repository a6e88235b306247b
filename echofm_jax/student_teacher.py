"""One step of self-distillation: what the student's crops lose against the teacher's.

As the official DINOv2 training step has it, over a batch that is laid out by image: an image's two
global crops, its local crops, its masks. Only masked patches meet the head, in lists of one length.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from echofm_jax.dino_head import prototype_scores
from echofm_jax.dinov2_losses import (
    batch_center,
    centred,
    cross_entropy,
    koleo,
    masked_patches,
    sinkhorn,
)
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.image_model import bind, drop_path_keep
from echofm_jax.patches import take_tokens

GLOBAL_CROPS = 2


def student_teacher_losses(
    student: dict,
    teacher: dict,
    batch: dict,
    arch: ImageArchitecture,
    *,
    centers: dict,
    centering: str,
    most_masked: int,
    teacher_temperature: jax.Array,
    student_temperature: float = 0.1,
    dino_weight: float = 1.0,
    ibot_weight: float = 1.0,
    koleo_weight: float = 0.1,
    at_use: Callable | None = None,
) -> tuple[jax.Array, dict[str, jax.Array], dict[str, jax.Array]]:
    """→ (total loss, its terms, the batch's own centres).

    Args:
      student, teacher: `backbone`, `dino_head` and, where patches have their own, `ibot_head`.
      batch: `global` [B, 2, S, S, 3] and `local` [B, n, s, s, 3] (n may be 0) as
        `image_model.normalised` gives them, `mask` [B, 2, N] bool, `seed` [B] uint32 (only read
        when `arch.drop_path` is not 0).
      centers: `dino_center` and `ibot_center` [K], running means; empty for `sinkhorn_knopp`.
      centering: of dinov2_losses.CENTERINGS.
      most_masked: at least as many patches as any image has masked in its two crops together.
      at_use: as in `image_model.bind`, for both networks.

    Returns:
      Terms: `dino_local`, `dino_global`, `ibot`, `koleo`, as they are summed but for `dino_weight`
      and `ibot_weight`; a device's means. Centres: what `centers` holds, of this batch alone and
      over all devices; empty for `sinkhorn_knopp`.
    """
    b, local_crops = batch["mask"].shape[0], batch["local"].shape[1]
    index, weight = masked_patches(batch["mask"], most_masked)  # [B, M]
    valid = weight.ravel() > 0  # [B·M]

    def of_global(params: dict, **options: jax.Array) -> tuple[jax.Array, jax.Array]:
        images = batch["global"].reshape(-1, *batch["global"].shape[2:])  # [2B, S, S, 3]
        cls, patches = bind(arch, params["backbone"], at_use)(images, **options)
        patches = patches.reshape(b, -1, arch.width)  # [B, 2·N, D]
        masked = take_tokens(patches, index).reshape(-1, arch.width)  # [B·M, D]
        return cls, masked  # [2B, D]

    def scores(params: dict, head: str, x: jax.Array) -> jax.Array:
        return prototype_scores(params.get(head, params["dino_head"]), x, arch.dtype)

    def targets(logits: jax.Array, valid: jax.Array, center: str) -> jax.Array:
        if centering == "sinkhorn_knopp":
            return sinkhorn(logits, teacher_temperature, valid)
        return centred(logits, centers[center], teacher_temperature)

    cls, masked = of_global(teacher)
    cls_logits, patch_logits = (
        scores(teacher, "dino_head", cls),
        scores(teacher, "ibot_head", masked),
    )
    every = jnp.ones(GLOBAL_CROPS * b, bool)
    cls_targets = targets(cls_logits, every, "dino_center").reshape(b, GLOBAL_CROPS, -1)
    patch_targets = targets(patch_logits, valid, "ibot_center")  # [B·M, K]
    seen = {}
    if centering == "centering":
        seen["dino_center"] = batch_center(cls_logits, every)
        seen["ibot_center"] = batch_center(patch_logits, valid)

    keep = keeps(batch, arch, GLOBAL_CROPS + local_crops)  # [B, crops, depth, 2]
    own = {} if keep is None else {"keep": keep[:, :GLOBAL_CROPS].reshape(-1, arch.depth, 2)}
    cls, masked = of_global(student, mask=batch["mask"].reshape(-1, arch.positions), **own)
    pairs = GLOBAL_CROPS * (GLOBAL_CROPS - 1) + max(GLOBAL_CROPS * local_crops, 1)
    logits = scores(student, "dino_head", cls).reshape(b, GLOBAL_CROPS, -1)
    # A crop learns the other's target.
    across = cross_entropy(logits, cls_targets[:, ::-1], student_temperature)  # [B, 2]
    per_patch = cross_entropy(
        scores(student, "ibot_head", masked), patch_targets, student_temperature
    )  # [B·M]
    crops = cls.reshape(b, GLOBAL_CROPS, -1)
    terms = {
        "dino_global": across.sum(1).mean() / pairs,
        "ibot": (weight.ravel() * per_patch).sum() / (GLOBAL_CROPS * b),
        "koleo": koleo_weight * sum(koleo(crops[:, i]) for i in range(GLOBAL_CROPS)),
        "dino_local": jnp.zeros(()),
    }
    if local_crops:
        images = batch["local"].reshape(-1, *batch["local"].shape[2:])  # [B·n, s, s, 3]
        own = {} if keep is None else {"keep": keep[:, GLOBAL_CROPS:].reshape(-1, arch.depth, 2)}
        cls, _ = bind(arch, student["backbone"], at_use)(images, **own)
        logits = scores(student, "dino_head", cls).reshape(b, local_crops, -1)  # [B, n, K]
        both = cls_targets.sum(1, keepdims=True)  # each is learned from both global crops
        across = cross_entropy(logits, both, student_temperature)  # [B, n]
        terms["dino_local"] = across.sum(1).mean() / pairs
    dino = dino_weight * (terms["dino_global"] + terms["dino_local"])
    return dino + ibot_weight * terms["ibot"] + terms["koleo"], terms, seen


def keeps(batch: dict, arch: ImageArchitecture, crops: int) -> jax.Array | None:
    """[B, crops, depth, 2] drop path's multipliers, from each image's seed; None without any."""
    if not arch.drop_path:
        return None

    def one(seed: jax.Array) -> jax.Array:
        seeds = jax.random.bits(jax.random.key(seed), (crops,), jnp.uint32)
        return drop_path_keep(seeds, arch.depth, arch.drop_path)

    return jax.vmap(one)(batch["seed"])
