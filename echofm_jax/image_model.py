"""EchoApex's backbone: DINOv2's vision transformer over single frames.

Built and used as model.py's modules are: blocks stacked by `jax.vmap` and run by `lax.scan`,
parameters outside as a nested dict (`init_params`, `bind`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from echofm_jax.dense import Dense
from echofm_jax.image_architecture import IMAGENET_MEAN, IMAGENET_STD, ImageArchitecture
from echofm_jax.image_positions import image_matrix
from echofm_jax.model import SMALL, Attention, Mlp, PatchEmbed, layer_norm, prepend, run_blocks
from echofm_jax.patches import CHANNELS, patchify, to_unit

TINY = nnx.initializers.normal(1e-6)


class ImageBlock(nnx.Module):
    """Pre-norm transformer block whose residual branches are scaled and may be dropped."""

    # What makes a block's parameters ready where devices hold parts of them (`bind`).
    at_use: Callable = staticmethod(lambda block: block)

    def __init__(self, arch: ImageArchitecture, rngs: nnx.Rngs):
        width, dtype = arch.width, arch.dtype
        ffn = SwiGlu if arch.ffn == "swiglu" else Mlp
        self.norm1, self.norm2 = layer_norm(width, dtype, rngs), layer_norm(width, dtype, rngs)
        self.attn = Attention(width, arch.heads, dtype, arch.attention, rngs, SMALL)
        self.mlp = ffn(width, arch.hidden, dtype, rngs, SMALL)
        scale = arch.layer_scale
        self.scale1 = nnx.Param(jnp.full(width, scale)) if scale else None
        self.scale2 = nnx.Param(jnp.full(width, scale)) if scale else None

    def __call__(self, x: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        """[n, tokens, D] → the same; `keep` [n, 2] multiplies the branches, attention's first."""
        self = self.at_use(self)
        keep = (None, None) if keep is None else (keep[:, 0], keep[:, 1])
        y = self.norm1(x)
        x = x + scaled(self.attn(y, y), self.scale1, keep[0])
        return x + scaled(self.mlp(self.norm2(x)), self.scale2, keep[1])


class SwiGlu(nnx.Module):
    """A gated feed-forward layer: silu(gate) · value, then `fc2`."""

    def __init__(self, width: int, hidden: int, dtype: str, rngs: nnx.Rngs, init: Callable):
        self.gate = Dense(width, hidden, dtype, rngs, init)
        self.value = Dense(width, hidden, dtype, rngs, init)
        self.fc2 = Dense(hidden, width, dtype, rngs, init)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] → [..., D]."""
        return self.fc2(jax.nn.silu(self.gate(x)) * self.value(x))


class Backbone(nnx.Module):
    """Embeds an image's patches and runs the transformer over CLS, registers and patches."""

    def __init__(self, arch: ImageArchitecture, rngs: nnx.Rngs):
        self.arch = arch
        self.patch_embed = PatchEmbed(arch.patch**2, arch.width, rngs, SMALL)
        self.cls_token = nnx.Param(TINY(rngs.params(), (arch.width,)))
        self.mask_token = nnx.Param(jnp.zeros(arch.width))
        registers = TINY(rngs.params(), (arch.registers, arch.width))
        self.registers = nnx.Param(registers) if arch.registers else None
        self.pos_cls = nnx.Param(SMALL(rngs.params(), (arch.width,)))
        self.pos_spatial = nnx.Param(SMALL(rngs.params(), (arch.positions, arch.width)))
        keys = jax.random.split(rngs.params(), arch.depth)
        self.blocks = jax.vmap(lambda key: ImageBlock(arch, nnx.Rngs(key)))(keys)
        self.norm = layer_norm(arch.width, arch.dtype, rngs)

    def __call__(
        self, images: jax.Array, mask: jax.Array | None = None, keep: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Images → CLS [n, D] float32 and patches [n, N, D], after the final norm.

        Args:
          images: [n, S, S, 3] as `normalised` gives them; S may differ from the architecture's.
          mask: [n, N] bool; True puts the mask token in a patch's place.
          keep: [n, depth, 2] what residual branches are multiplied by, see `drop_path_keep`.
        """
        arch = self.arch
        n, size = images.shape[:2]
        patches = patchify(images[:, None], 1, arch.patch)  # [n, N, p·p, 3]
        x = self.patch_embed(patches.astype(arch.dtype))  # [n, N, D]
        if mask is not None:
            x = jnp.where(mask[..., None], self.mask_token[...], x)
        x = x + self.positions(size // arch.patch)
        if self.registers is not None:
            registers = jnp.broadcast_to(self.registers[...], (n, arch.registers, arch.width))
            x = jnp.concatenate([registers, x], axis=1)  # [n, R + N, D]
        x = prepend(self.cls_token + self.pos_cls, x).astype(arch.dtype)  # [n, 1 + R + N, D]
        per_block = () if keep is None else (keep.swapaxes(0, 1),)  # [depth, n, 2]
        x = self.norm(run_blocks(self.blocks, x, arch.remat, *per_block))
        return x[:, 0], x[:, 1 + arch.registers :].astype(arch.dtype)  # [n, D], [n, N, D]

    def positions(self, grid: int) -> jax.Array:
        """Position embeddings [grid², D]; bicubic where the grid is not that of training."""
        arch, learned = self.arch, self.pos_spatial[...]  # [N, D]
        if grid == arch.grid:
            return learned
        weights = image_matrix(arch.grid, grid)  # [g', g]
        learned = learned.reshape(arch.grid, arch.grid, arch.width)  # [g, g, D]
        other = jnp.einsum("yi,xj,ijd->yxd", weights, weights, learned, precision="highest")
        return other.reshape(grid**2, arch.width)  # [g'², D]


def scaled(branch: jax.Array, scale: nnx.Param | None, keep: jax.Array | None) -> jax.Array:
    """A residual branch [n, tokens, D] times LayerScale [D] and drop path's `keep` [n]."""
    if scale is not None:
        branch = branch * scale[...].astype(branch.dtype)
    return branch if keep is None else branch * keep[:, None, None].astype(branch.dtype)


def drop_path_keep(seed: jax.Array, depth: int, rate: float) -> jax.Array:
    """Seeds [n] uint32 → [n, depth, 2]: 0 with probability `rate`, else 1 / (1 - rate).

    Each sample's own seed decides, so nothing depends on how a batch lies on devices. (The official
    code drops a fixed number of a device's samples instead.)
    """

    def one(seed: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.key(seed), 1 - rate, (depth, 2))

    return jax.vmap(one)(seed) / np.float32(1 - rate)


def normalised(images: jax.Array) -> jax.Array:
    """Uint8 images [..., S, S(, 3)] → float32 [..., S, S, 3] in ImageNet's units; grey repeated."""
    x = to_unit(images)
    x = x if x.shape[-1] == CHANNELS else x[..., None]
    return (x - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)


def init_params(arch: ImageArchitecture, key: jax.Array) -> dict:
    """Fresh parameters as a plain nested dict; jit it with `out_shardings` to place them."""
    return nnx.to_pure_dict(nnx.state(Backbone(arch, nnx.Rngs(key)), nnx.Param))


def bind(arch: ImageArchitecture, params: dict, at_use: Callable | None = None) -> Backbone:
    """A backbone around parameters; call it inside `jax.jit`. `at_use` is as in model.bind."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: Backbone(arch, nnx.Rngs(0))))
    model = nnx.merge(graph, params)
    if at_use is not None:
        model.blocks.at_use = at_use
    return model
