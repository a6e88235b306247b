"""Which tokens an encoder's output draws on: attention roll-out (Abnar and Zuidema 2020).

The encoder's blocks once more, with plain attention that keeps its weights; the model itself never
holds them all at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from echofm_jax.architecture import Architecture
from echofm_jax.model import Attention, Block, bind, positions_of, prepend
from echofm_jax.patches import patchify, to_unit, with_channels


class Rollout(NamedTuple):
    """`tokens` [B, t·L, D] as of `encode`, `shares` [B, 1 + t·L, 1 + t·L]; float32.

    shares[b, i, j] is how much of output token i comes from input token j, the CLS token first;
    rows sum to 1.
    """

    tokens: jax.Array
    shares: jax.Array


def rollout(params: dict, clips: jax.Array, *, arch: Architecture) -> Rollout:
    """Clips [B, T, H, W(, 3)], nothing masked → tokens and shares.

    Half of a block's output is taken to come through its residual connection, the other half
    through its attention, averaged over heads (equation 1 of the paper); blocks are multiplied.
    """
    encoder = bind(arch, params).encoder
    every = jnp.broadcast_to(jnp.arange(arch.tokens), (clips.shape[0], arch.tokens))
    patches = to_unit(patchify(with_channels(clips), arch.tubelet, arch.patch))
    x = encoder.patch_embed(patches.astype(arch.dtype))  # [B, t·L, D]
    x = x + positions_of(encoder, every, arch.positions)
    x = prepend(encoder.cls_token + encoder.pos_cls, x).astype(arch.dtype)  # [B, 1 + t·L, D]
    shares = jnp.broadcast_to(jnp.eye(x.shape[1]), (len(x), x.shape[1], x.shape[1]))

    def body(carry: tuple[jax.Array, jax.Array], block: Block) -> tuple[tuple, None]:
        x, shares = carry
        mixed, weights = attend(block.attn, block.norm1(x))
        x = x + mixed
        x = x + block.mlp(block.norm2(x))
        return (x, (shares + jnp.matmul(weights, shares, precision="highest")) / 2), None

    (x, shares), _ = jax.lax.scan(body, (x, shares), encoder.blocks)
    tokens = encoder.norm(x)[:, 1:].astype(arch.dtype)  # [B, t·L, D]
    return Rollout(tokens.astype(jnp.float32), shares)


def attend(layer: Attention, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, N, D] → attended [B, N, D], weights averaged over heads [B, N, N]."""
    b, n, width = y.shape

    def heads(x: jax.Array) -> jax.Array:
        return x.reshape(b, n, layer.heads, -1)  # [B, N, H, d]

    query = heads(layer.query(y)) * (width // layer.heads) ** -0.5
    key, value = heads(layer.key(y)), heads(layer.value(y))
    logits = jnp.einsum("bnhd,bmhd->bhnm", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1)  # [B, H, N, N]
    mixed = jnp.einsum("bhnm,bmhd->bnhd", weights.astype(value.dtype), value)
    return layer.out(mixed.reshape(b, n, width)), weights.mean(axis=1)


def relevance(shares: jax.Array, arch: Architecture) -> jax.Array:
    """Shares → [B, t, L]: what the mean of all tokens draws from each one.

    In units of an even share: the mean is 1. The CLS token's part is left out.
    """
    drawn = shares[:, 1:, 1:].mean(axis=1)  # [B, t·L]
    drawn = drawn / drawn.mean(axis=1, keepdims=True)
    return drawn.reshape(len(shares), arch.steps, arch.positions)  # [B, t, L]
