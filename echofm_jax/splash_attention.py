"""Softmax attention by the kernel that JAX ships for TPUs: what ours is measured against."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

LANES = 128
QUERY_BLOCK = 512  # rows of logits that are on chip at once


def splash(
    query: jax.Array, key: jax.Array, value: jax.Array, heads: int, scale: float
) -> jax.Array:
    """[B, N, H·d], [B, M, H·d], [B, M, H·d] → [B, N, H·d]; softmax in float32."""
    b, n, width = query.shape
    m = key.shape[1]

    def split(x: jax.Array) -> jax.Array:
        x = x.reshape(b, -1, heads, width // heads).transpose(0, 2, 1, 3)  # [B, H, N, d]
        return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % LANES), (0, 0)))

    q, k, v = split(query) * scale, split(key), split(value)
    rows, keys = q.shape[2], k.shape[2]
    block = max(x for x in range(LANES, min(rows, QUERY_BLOCK) + 1, LANES) if rows % x == 0)
    kernel = kernels.make_splash_mha_single_device(
        masks.MultiHeadMask([masks.FullMask((rows, keys))] * heads),
        block_sizes=kernels.BlockSizes(
            block_q=block, block_kv=keys, block_kv_compute=keys,
            block_q_dkv=block, block_kv_dkv=keys, block_kv_dkv_compute=keys,
            use_fused_bwd_kernel=True,
        ),
    )  # fmt: skip
    # What fills up the last tile is a segment of its own, which no real row attends to.
    segments = kernels.SegmentIds(np.arange(rows) >= n, np.arange(keys) >= m)
    segments = jax.tree.map(lambda x: jnp.asarray(x, jnp.int32), segments)
    mixed = jax.vmap(lambda q, k, v: kernel(q, k, v, segment_ids=segments))(q, k, v)
    return mixed[:, :, :n].transpose(0, 2, 1, 3).reshape(b, n, width)  # [B, N, H·d]
