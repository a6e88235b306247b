"""Softmax attention for TPUs as one kernel each way, on projections as the dense layers write them.

The kernels that JAX ships take [B, H, N, d] and pad d to 128 lanes; with heads of 32 or 64 channels
the transposes and pads around them cost more than they do. Here a block of 128 lanes of
[B, N, H·d] holds `128 // d` whole heads, and a head is taken out by zeroing the other lanes: free,
since the matrix unit would have multiplied padding there. All keys of a clip fit on chip at once,
so the softmax needs no running maximum, the backward pass computes it again from q and k, and
nothing is kept but what went in. (FlashAttention, Dao et al. 2022, appendix B.2, in one block.)
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from echofm_jax.remat import saved

LANES = 128
# Queries that a kernel takes at once, at most: the logits of one head, [queries, keys] float32,
# their exponentials and their gradients lie on chip together.
FORWARD_ROWS, BACKWARD_ROWS = 640, 896
ON_CHIP_BYTES = 48 << 20
A_BT, A_B, AT_B = (((1,), (1,)), ((), ())), (((1,), (0,)), ((), ())), (((0,), (0,)), ((), ()))


def fused(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    heads: int,
    scale: float,
    *,
    interpret: bool = False,
) -> jax.Array:
    """[B, N, H·d], [B, M, H·d], [B, M, H·d] → [B, N, H·d]; d divides 128.

    `interpret` runs the kernels' arithmetic on any platform, slowly.
    """
    width = query.shape[-1]
    spare = ((0, 0), (0, 0), (0, -width % LANES))  # heads of zeros fill up the last block
    q, k, v = (jnp.pad(x, spare) for x in (query, key, value))  # [B, N, blocks · 128]
    mixed = _attend(q, k, v, Heads(channels=width // heads, scale=scale), interpret)
    return saved(mixed[..., :width])  # [B, N, H·d]


class Heads(NamedTuple):
    """The heads in a block of lanes."""

    channels: int
    scale: float

    @property
    def count(self) -> int:
        """How many a block holds."""
        return LANES // self.channels

    def own(self, head: jax.Array) -> jax.Array:
        """[1, 128] bool: the lanes of one head."""
        lane = jax.lax.broadcasted_iota(jnp.int32, (1, LANES), 1)
        return (lane >= head * self.channels) & (lane < (head + 1) * self.channels)

    def scaled(self, q: jax.Array, own: jax.Array) -> jax.Array:
        """One head's queries times the logits' scale, zero in the other lanes."""
        return jnp.where(own, q.astype(jnp.float32) * self.scale, 0.0).astype(q.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, heads: Heads, interpret: bool) -> jax.Array:
    rows = block_rows(q.shape[1], FORWARD_ROWS, 16)  # bfloat16 packs 16 rows into a tile
    queries, keys = _specs(rows, k.shape[1])
    return pl.pallas_call(
        functools.partial(_forward_kernel, heads=heads),
        in_specs=[queries, keys, keys],
        out_specs=queries,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        **_settings("attention_forward", q, k, heads, rows, products=2, interpret=interpret),
    )(q, k, v)


def _attend_forward(q, k, v, heads, interpret):
    return _attend(q, k, v, heads, interpret), (q, k, v)


def _attend_backward(heads, interpret, inputs, gradient):
    q, k, v = inputs
    rows = block_rows(q.shape[1], BACKWARD_ROWS, LANES)  # queries are in lanes here
    queries, keys = _specs(rows, k.shape[1])
    sums = pltpu.VMEM((k.shape[1], LANES), jnp.float32)
    return pl.pallas_call(
        functools.partial(_backward_kernel, heads=heads, queries=q.shape[1]),
        in_specs=[queries, keys, keys, queries],
        out_specs=[queries, keys, keys],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs],
        scratch_shapes=[sums, sums],
        **_settings("attention_backward", q, k, heads, rows, products=5, interpret=interpret),
    )(q, k, v, gradient)


_attend.defvjp(_attend_forward, _attend_backward)


def _forward_kernel(q_ref, k_ref, v_ref, out_ref, *, heads: Heads):
    q, k, v = q_ref[...], k_ref[...], v_ref[...]  # [rows, 128], [M, 128], [M, 128]

    def one_head(head, _):
        own = heads.own(head)
        logits = _dot(heads.scaled(q, own), k, A_BT)  # [rows, M]
        weights = jnp.exp(logits - logits.max(1, keepdims=True))
        mixed = _dot(weights.astype(v.dtype), v, A_B) / weights.sum(1, keepdims=True)
        out_ref[...] = jnp.where(own, mixed.astype(out_ref.dtype), out_ref[...])

    jax.lax.fori_loop(0, heads.count, one_head, None)


def _backward_kernel(
    q_ref, k_ref, v_ref, out_grad_ref, dq_ref, dk_ref, dv_ref, dk_sum, dv_sum,
    *, heads: Heads, queries: int,
):  # fmt: skip
    """Logits are transposed, [M, rows]: of the five products only dq's transposes an operand."""
    rows, part, parts = q_ref.shape[0], pl.program_id(2), pl.num_programs(2)
    q, k, v, out_grad = q_ref[...], k_ref[...], v_ref[...], out_grad_ref[...]
    if queries % rows:  # the last block reaches beyond the array, where anything may stand
        row = part * rows + jax.lax.broadcasted_iota(jnp.int32, (rows, 1), 0)
        q, out_grad = (jnp.where(row < queries, x, jnp.zeros_like(x)) for x in (q, out_grad))

    @pl.when(part == 0)
    def _():
        dk_sum[...] = jnp.zeros_like(dk_sum)
        dv_sum[...] = jnp.zeros_like(dv_sum)

    def one_head(head, _):
        own = heads.own(head)
        q_own = heads.scaled(q, own)
        grad_own = jnp.where(own, out_grad, jnp.zeros_like(out_grad))
        logits = _dot(k, q_own, A_BT)  # [M, rows]
        weights = jnp.exp(logits - logits.max(0, keepdims=True))
        weights = weights * (1 / weights.sum(0, keepdims=True))
        dv_sum[...] += _dot(weights.astype(v.dtype), grad_own, A_B)  # [M, 128], only own lanes
        dweights = _dot(v, grad_own, A_BT)  # [M, rows]
        dlogits = weights * (dweights - (weights * dweights).sum(0, keepdims=True))
        dlogits = dlogits.astype(q.dtype)
        dk_sum[...] += _dot(dlogits, q_own, A_B)
        dq = _dot(dlogits, k, AT_B) * heads.scale  # [rows, 128]
        dq_ref[...] = jnp.where(own, dq.astype(dq_ref.dtype), dq_ref[...])

    jax.lax.fori_loop(0, heads.count, one_head, None)

    @pl.when(part == parts - 1)
    def _():
        dk_ref[...] = dk_sum[...].astype(dk_ref.dtype)
        dv_ref[...] = dv_sum[...].astype(dv_ref.dtype)


_dot = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)


def block_rows(queries: int, limit: int, multiple: int) -> int:
    """Rows of a block: all of them, or equal parts of at most `limit`, rounded up to `multiple`."""
    parts = -(-queries // limit)
    return queries if parts == 1 else -(-queries // parts // multiple) * multiple


def _specs(rows: int, keys: int) -> tuple[pl.BlockSpec, pl.BlockSpec]:
    """Blocks of queries and of keys at grid position (clip, block of lanes, block of queries)."""
    return (
        pl.BlockSpec((None, rows, LANES), lambda clip, lanes, part: (clip, part, lanes)),
        pl.BlockSpec((None, keys, LANES), lambda clip, lanes, part: (clip, 0, lanes)),
    )


def _settings(name: str, q, k, heads: Heads, rows: int, *, products: int, interpret: bool) -> dict:
    """What both calls have in common; the cost is for XLA's scheduler."""
    clips, queries, width = q.shape
    logits = clips * (width // LANES) * heads.count * queries * k.shape[1]
    return {
        "name": name,
        "grid": (clips, width // LANES, pl.cdiv(queries, rows)),
        "interpret": interpret,
        "cost_estimate": pl.CostEstimate(
            flops=products * 2 * LANES * logits,
            transcendentals=logits,
            bytes_accessed=products * (q.size + k.size) * q.dtype.itemsize,
        ),
        "compiler_params": pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=ON_CHIP_BYTES,
        ),
    }
