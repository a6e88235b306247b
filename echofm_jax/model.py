"""EchoFM's video transformer: encoder, projector and decoder of the masked autoencoder.

Flax NNX modules used as plain pytrees: blocks are stacked by `jax.vmap` and run by `lax.scan`;
parameters live outside as a nested dict (`init_params`, `bind`). Consistent masking is exploited
where it is free: only visible tubelets are embedded, the projector computes its CLS query only,
the decoder never unshuffles, and its last block computes only the tokens that are asked for.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from echofm_jax.architecture import Architecture
from echofm_jax.attention import attention, head_lanes, widen_heads
from echofm_jax.dense import XAVIER, Dense, dense
from echofm_jax.patches import CHANNELS, patchify, take_tokens, to_unit, with_channels
from echofm_jax.remat import recomputed

SMALL = nnx.initializers.truncated_normal(0.02)


class Block(nnx.Module):
    """Pre-norm transformer block; exact GELU; q, k, v are separate layers with biases."""

    # What makes a block's parameters ready where devices hold parts of them (`bind`).
    at_use: Callable = staticmethod(lambda block: block)

    def __init__(self, arch: Architecture, width: int, heads: int, hidden: int, rngs: nnx.Rngs):
        dtype = arch.dtype
        self.norm1, self.norm2 = layer_norm(width, dtype, rngs), layer_norm(width, dtype, rngs)
        self.attn = Attention(width, heads, dtype, arch.attention, rngs)
        self.mlp = Mlp(width, hidden, dtype, rngs)

    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """[B, N, D] → [B, N, D]; with `context` [B, M, D], x attends to [x, context]."""
        self = self.at_use(self)
        y = self.norm1(x)
        keys = y if context is None else jnp.concatenate([y, self.norm1(context)], axis=1)
        x = x + self.attn(y, keys)
        return x + self.mlp(self.norm2(x))


class Attention(nnx.Module):
    """Multi-head attention's four dense layers."""

    def __init__(self, width: int, heads: int, dtype, kind: str, rngs: nnx.Rngs, init=XAVIER):
        self.heads, self.kind, self.dtype = heads, kind, dtype
        self.query = Dense(width, width, dtype, rngs, init)
        self.key = Dense(width, width, dtype, rngs, init)
        self.value = Dense(width, width, dtype, rngs, init)
        self.out = Dense(width, width, dtype, rngs, init)

    def __call__(self, x: jax.Array, keys: jax.Array) -> jax.Array:
        """Queries from x [B, N, D], keys and values from [B, M, D] → [B, N, D]."""
        head_dim = x.shape[-1] // self.heads
        lanes = head_lanes(head_dim, self.kind)  # what a head takes in memory: d or more

        def project(layer: Dense, y: jax.Array) -> jax.Array:
            kernel = widen_heads(layer.kernel[...], self.heads, lanes, axis=1)
            bias = widen_heads(layer.bias[...], self.heads, lanes, axis=0)
            return dense(y, kernel, bias, self.dtype)  # [B, N, H·lanes]

        query, key, value = (
            project(self.query, x),
            project(self.key, keys),
            project(self.value, keys),
        )
        mixed = attention(query, key, value, self.heads, head_dim**-0.5, self.kind)
        kernel = widen_heads(self.out.kernel[...], self.heads, lanes, axis=0)
        return dense(mixed, kernel, self.out.bias[...], self.dtype)  # [B, N, D]


class Mlp(nnx.Module):
    """Two dense layers around an exact GELU."""

    def __init__(self, width: int, hidden: int, dtype, rngs: nnx.Rngs, init=XAVIER):
        self.fc1 = Dense(width, hidden, dtype, rngs, init)
        self.fc2 = Dense(hidden, width, dtype, rngs, init)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] → [..., D]."""
        return self.fc2(gelu(self.fc1(x)))


class Encoder(nnx.Module):
    """Embeds the visible tubelets and runs the transformer over them."""

    def __init__(self, arch: Architecture, rngs: nnx.Rngs):
        self.arch = arch
        pixels = arch.tubelet * arch.patch**2
        self.patch_embed = PatchEmbed(pixels, arch.width, rngs)
        self.cls_token = nnx.Param(SMALL(rngs.params(), (arch.width,)))
        self.pos_spatial = nnx.Param(SMALL(rngs.params(), (arch.positions, arch.width)))
        self.pos_temporal = nnx.Param(SMALL(rngs.params(), (arch.steps, arch.width)))
        self.pos_cls = nnx.Param(SMALL(rngs.params(), (arch.width,)))
        self.blocks = stacked_blocks(arch, arch.depth, arch.width, arch.heads, arch.hidden, rngs)
        self.norm = layer_norm(arch.width, arch.dtype, rngs)

    def __call__(self, clips: jax.Array, visible: jax.Array) -> jax.Array:
        """Clips [B, T, H, W(, C)] and visible indices [B, n] → tokens [B, n, D], CLS removed."""
        arch = self.arch
        patches = patchify(with_channels(clips), arch.tubelet, arch.patch)  # [B, t·L, u·p·p, C]
        patches = to_unit(take_tokens(patches, visible))  # [B, n, u·p·p, C]
        x = self.patch_embed(patches.astype(arch.dtype))  # [B, n, D]
        x = x + positions_of(self, visible, arch.positions)
        x = prepend(self.cls_token + self.pos_cls, x)  # [B, 1 + n, D]
        x = run_blocks(self.blocks, x.astype(arch.dtype), arch.remat)
        return self.norm(x)[:, 1:].astype(arch.dtype)  # [B, n, D]


class PatchEmbed(nnx.Module):
    """The tubelet convolution as one matrix product; grey clips use the summed channels."""

    def __init__(self, pixels: int, width: int, rngs: nnx.Rngs, init=XAVIER):
        flat = init(rngs.params(), (pixels * CHANNELS, width))
        self.kernel = nnx.Param(flat.reshape(pixels, CHANNELS, width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, patches: jax.Array) -> jax.Array:
        """[B, n, u·p·p, C] → [B, n, D] float32, C = 3, or 1 for three equal channels."""
        kernel = self.kernel[...]  # [u·p·p, 3, D]
        if patches.shape[-1] == 1:
            kernel = kernel.sum(1, keepdims=True)  # [u·p·p, 1, D]
        x = patches.reshape(*patches.shape[:2], -1)  # [B, n, u·p·p·C]
        kernel = kernel.reshape(-1, kernel.shape[-1]).astype(patches.dtype)
        return jnp.dot(x, kernel, preferred_element_type=jnp.float32) + self.bias[...]


class Projector(nnx.Module):
    """One shared block that turns each step's visible tokens into a frame (phase) embedding."""

    def __init__(self, arch: Architecture, rngs: nnx.Rngs):
        self.arch = arch
        self.cls_token = nnx.Param(SMALL(rngs.params(), (arch.width,)))
        self.block = Block(arch, arch.width, arch.heads, arch.hidden, rngs)
        self.norm = layer_norm(arch.width, arch.dtype, rngs)

    def __call__(self, tokens: jax.Array, visible: jax.Array) -> jax.Array:
        """Encoder tokens [B, n, D] and their indices [B, n] → z [B, t, D] float32.

        Only the CLS output is used, and its query is the same for every clip and step: so one
        query meets all tokens, and a softmax per step keeps steps apart.
        """
        arch, block = self.arch, self.block.at_use(self.block)
        heads, head_dim = arch.heads, arch.width // arch.heads
        b, n, _ = tokens.shape
        cls = jnp.broadcast_to(self.cls_token[...], (b, 1, arch.width)).astype(arch.dtype)
        y = block.norm1(jnp.concatenate([cls, tokens], axis=1))  # [B, 1 + n, D]
        query = block.attn.query(y[:, :1]).reshape(b, heads, head_dim) * head_dim**-0.5
        key = block.attn.key(y).reshape(b, 1 + n, heads, head_dim)
        value = block.attn.value(y).reshape(b, 1 + n, heads, head_dim)
        logits = jnp.einsum("bhd,bnhd->bhn", query, key, preferred_element_type=jnp.float32)
        steps = jnp.arange(arch.steps)[:, None]
        own = visible[:, None] // arch.positions == steps  # [B, t, n]
        own = jnp.concatenate([jnp.ones((b, arch.steps, 1), bool), own], -1)  # [B, t, 1 + n]
        weights = jax.nn.softmax(jnp.where(own[:, None], logits[:, :, None], -jnp.inf), -1)
        mixed = jnp.einsum("bhtn,bnhd->bthd", weights.astype(arch.dtype), value)
        mixed = mixed.reshape(b, arch.steps, arch.width)  # [B, t, D]
        z = cls + block.attn.out(mixed)
        z = z + block.mlp(block.norm2(z))
        return self.norm(z)


class Decoder(nnx.Module):
    """Predicts pixels from visible tokens and mask tokens, in whatever order they come."""

    def __init__(self, arch: Architecture, rngs: nnx.Rngs):
        self.arch = arch
        width = arch.decoder_width
        self.embed = Dense(arch.width, width, arch.dtype, rngs)
        self.cls_token = nnx.Param(SMALL(rngs.params(), (width,)))
        self.mask_token = nnx.Param(SMALL(rngs.params(), (width,)))
        self.pos_spatial = nnx.Param(SMALL(rngs.params(), (arch.positions, width)))
        self.pos_temporal = nnx.Param(SMALL(rngs.params(), (arch.steps, width)))
        self.pos_cls = nnx.Param(SMALL(rngs.params(), (width,)))
        self.blocks = stacked_blocks(
            arch, arch.decoder_depth, width, arch.decoder_heads, arch.decoder_hidden, rngs
        )
        self.norm = layer_norm(width, arch.dtype, rngs)
        pixels = arch.pred_tubelet * arch.patch**2 * CHANNELS
        self.pred = Dense(width, pixels, arch.dtype, rngs)

    def __call__(
        self, tokens: jax.Array, visible: jax.Array, masked: jax.Array, *, all_tokens: bool = False
    ) -> jax.Array:
        """Tokens [B, n, D] → predictions [B, m, u'·p·p, 3] float32 of the masked tokens.

        With `all_tokens`, of every token in time-major order: [B, t·L, u'·p·p, 3].
        """
        arch = self.arch
        b, m = masked.shape
        seen = self.embed(tokens) + positions_of(self, visible, arch.positions)  # [B, n, Dd]
        hidden = self.mask_token + positions_of(self, masked, arch.positions)  # [B, m, Dd]
        x = prepend(self.cls_token + self.pos_cls, jnp.concatenate([hidden, seen], axis=1))
        x = x.astype(arch.dtype)  # [B, 1 + t·L, Dd]: CLS, masked, visible
        body, last = split_last(self.blocks)
        x = run_blocks(body, x, arch.remat)
        if all_tokens:
            x = last(x)[:, 1:]  # [B, t·L, Dd]
            order = jnp.argsort(jnp.concatenate([masked, visible], axis=1), axis=1)
            x = take_tokens(x, order)
        else:
            keys = jnp.concatenate([x[:, :1], x[:, 1 + m :]], axis=1)  # [B, 1 + n, Dd]
            x = recomputed(Block.__call__, arch.remat)(last, x[:, 1 : 1 + m], keys)  # [B, m, Dd]
        x = self.pred(self.norm(x).astype(arch.dtype)).astype(jnp.float32)
        return x.reshape(b, x.shape[1], -1, CHANNELS)  # [B, m, u'·p·p, 3]


class EchoFM(nnx.Module):
    """The whole model: `encoder`, `projector` and `decoder`."""

    def __init__(self, arch: Architecture, rngs: nnx.Rngs):
        self.encoder = Encoder(arch, rngs)
        self.projector = Projector(arch, rngs)
        self.decoder = Decoder(arch, rngs)


def layer_norm(width: int, dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm in float32, eps 1e-6, as accurate as the reference's.

    Activations in bfloat16 are rounded far more coarsely than a variance from one pass over them.
    """
    one_pass = dtype == "bfloat16"
    return nnx.LayerNorm(
        width, epsilon=1e-6, use_fast_variance=one_pass, dtype=jnp.float32, rngs=rngs
    )


def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU, computed in float32; by erf, which costs TPUs less than jax.nn.gelu's erfc."""
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * 2**-0.5))).astype(x.dtype)


def stacked_blocks(
    arch: Architecture, depth: int, width: int, heads: int, hidden: int, rngs: nnx.Rngs
) -> Block:
    """`depth` blocks as one, every parameter with a leading axis [depth, ...]."""
    keys = jax.random.split(rngs.params(), depth)
    return jax.vmap(lambda key: Block(arch, width, heads, hidden, nnx.Rngs(key)))(keys)


def run_blocks(blocks: nnx.Module, x: jax.Array, remat: str, *per_block: jax.Array) -> jax.Array:
    """Run stacked blocks over x [B, N, D]; `remat` names what the backward pass finds saved.

    Each block is also given its own part of `per_block`, arrays [depth, ...].
    """

    def body(x: jax.Array, of_block: tuple) -> tuple[jax.Array, None]:
        block, *own = of_block
        return block(x, *own), None

    return jax.lax.scan(recomputed(body, remat), x, (blocks, *per_block))[0]


def split_last(blocks: Block) -> tuple[Block, Block]:
    """Stacked blocks → (all but the last, still stacked; the last)."""
    return jax.tree.map(lambda x: x[:-1], blocks), jax.tree.map(lambda x: x[-1], blocks)


def positions_of(module: Encoder | Decoder, index: jax.Array, positions: int) -> jax.Array:
    """Token indices [B, n] → their separate space and time embeddings, summed [B, n, D]."""
    return module.pos_spatial[...][index % positions] + module.pos_temporal[...][index // positions]


def prepend(token: jax.Array, x: jax.Array) -> jax.Array:
    """A token [D] in front of each sequence of x [B, N, D] → [B, 1 + N, D]."""
    first = jnp.broadcast_to(token, (x.shape[0], 1, x.shape[-1])).astype(x.dtype)
    return jnp.concatenate([first, x], axis=1)


def init_params(arch: Architecture, key: jax.Array) -> dict:
    """Fresh parameters as a plain nested dict; jit it with `out_shardings` to place them."""
    return nnx.to_pure_dict(nnx.state(EchoFM(arch, nnx.Rngs(key)), nnx.Param))


def bind(arch: Architecture, params: dict, at_use: Callable | None = None) -> EchoFM:
    """A model around parameters; call it inside `jax.jit`.

    `at_use(block)`, if given, is called by each block, where it runs, for the parameters it uses.
    """
    graph = nnx.graphdef(nnx.eval_shape(lambda: EchoFM(arch, nnx.Rngs(0))))
    model = nnx.merge(graph, params)
    if at_use is not None:
        for blocks in (model.encoder.blocks, model.projector.block, model.decoder.blocks):
            blocks.at_use = at_use
    return model
