"""The gradient of a batch: over its microbatches, and over the devices that share it.

Over devices it is taken inside `jax.shard_map`: each device differentiates its own clips' part of
the loss, so that what crosses chips over slice, data and fsdp is written here – its kind, its place
and its dtype – and nothing of it is left to the partitioner. `tensor` stays the partitioner's:
Megatron's all-reduces follow from how the kernels are split.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from echofm_jax.sharding import BATCH, only, over_tensor, partition, path_name

BATCH_AXES = BATCH[0]
SUBLANES, LANES = 8, 128  # a TPU's tile: chips share whole ones
BLOCKS = ("blocks", "block")  # modules whose parameters are gathered one layer at a time


def accumulate(
    loss_fn: Callable, params: dict, batch: dict, microbatches: int
) -> tuple[dict, dict[str, jax.Array]]:
    """Mean gradient and metrics over `microbatches` parts, one part in memory at a time.

    The sum is kept in the parameters' dtype, float32.
    """
    gradient = jax.grad(loss_fn, has_aux=True)
    if microbatches == 1:
        return gradient(params, batch)
    parts = in_parts(batch, microbatches)

    def body(total, part):
        return jax.tree.map(jnp.add, total, gradient(params, part)), None

    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], parts)),
    )
    total, _ = jax.lax.scan(body, zeros, parts)
    return jax.tree.map(lambda x: x / microbatches, total)


def in_parts(batch: dict, microbatches: int) -> dict:
    """[B, ...] → [microbatches, B / microbatches, ...].

    Interleaved: the parts are the same clips on any number of devices.
    """
    return jax.tree.map(lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exchange:
    """How devices share parameters and sum gradients."""

    mesh: Mesh
    preset: str  # of sharding.PRESETS
    compute_dtype: str  # of blocks' kernels, which travel in it
    reduce_dtype: str  # of gradients that cross chips
    microbatches: int

    def gradient(
        self, loss_fn: Callable, params: dict, batch: dict, kept: dict
    ) -> tuple[dict, dict]:
        """Mean gradient, sharded as the parameters are, and mean metrics of a global batch.

        `loss_fn(params, batch, kept, at_use)` → (loss, metrics), means over the clips it is given;
        it calls `at_use` on each block before it uses the block's parameters. `kept` is what it
        reads besides and nothing is learned of, split as parameters of the same names are.
        """
        devices = self.mesh.size // self.mesh.shape["tensor"]

        def local(params: dict, kept: dict, batch: dict) -> tuple[dict, dict]:
            ready = self.outside_blocks(kept)

            def own(params: dict, batch: dict) -> tuple[jax.Array, dict]:
                whole = self.outside_blocks(params)
                loss, metrics = loss_fn(whole, batch, ready, at_use=self.block)
                return loss / devices, metrics

            grads, metrics = accumulate(own, params, batch, self.microbatches)
            if self.microbatches > 1:
                grads = jax.tree.map_with_path(self.sum_once, grads)
            return grads, jax.lax.pmean(metrics, BATCH_AXES)

        on_each = self._on_each(local, params, kept, lambda held: (held, P()))
        grads, metrics = on_each(params, kept, batch)
        specs = jax.tree.map_with_path(self.spec, params)
        shardings = jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs)
        return jax.lax.with_sharding_constraint(grads, shardings), metrics

    def metrics(self, loss_fn: Callable, params: dict, batch: dict, kept: dict) -> dict:
        """Mean metrics of a global batch, part by part, without a gradient.

        `loss_fn` and `kept` as in `gradient`.
        """

        def local(params: dict, kept: dict, batch: dict) -> dict:
            whole, ready = self.outside_blocks(params), self.outside_blocks(kept)

            def one(part: dict) -> dict:
                return loss_fn(whole, part, ready, at_use=self.block)[1]

            metrics = jax.lax.map(one, in_parts(batch, self.microbatches))
            return jax.lax.pmean(jax.tree.map(lambda x: x.mean(0), metrics), BATCH_AXES)

        return self._on_each(local, params, kept, lambda held: P())(params, kept, batch)

    def _on_each(self, local: Callable, params: dict, kept: dict, out_specs: Callable) -> Callable:
        """`local` of a device's parts of all that it reads; `tensor` is not seen in it."""
        held, held_kept = (
            jax.tree.map_with_path(lambda *leaf: only(self.spec(*leaf), BATCH_AXES), tree)
            for tree in (params, kept)
        )
        return jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(held, held_kept, BATCH),
            out_specs=out_specs(held),
            axis_names=set(BATCH_AXES),
            check_vma=False,  # gradients stay a device's own until they are summed here
        )

    def spec(self, path: tuple, x: jax.Array) -> P:
        """How a parameter is split."""
        return partition(path_name(path), x.shape, self.preset)

    def outside_blocks(self, params: dict) -> dict:
        """Parameters with all that is not in a block ready for use; few, so all at once."""

        def one(path: tuple, x: jax.Array) -> jax.Array:
            inside = any(key.key in BLOCKS for key in path)
            return x if inside else self.at_use(path, x)

        return jax.tree.map_with_path(one, params)

    def block(self, block):
        """A block with its parameters ready for use."""
        return jax.tree.map_with_path(self.at_use, block)

    def at_use(self, path: tuple, x: jax.Array) -> jax.Array:
        """A device's part of a parameter → the whole, but for `tensor`; its gradient is summed.

        With one microbatch it is summed over all devices here, in the backward pass, where the
        layers before it are still to be computed; with several, only as far as the gradient must
        be split again, and `sum_once` does the rest.
        """
        spec = self.spec(path, x)
        split = spec.index("fsdp") if "fsdp" in spec else None
        if split is None and self.microbatches > 1:
            return x

        def gather(x: jax.Array) -> jax.Array:
            return jax.lax.all_gather(x.astype(self.compute_dtype), "fsdp", axis=split, tiled=True)

        def reduce(g: jax.Array) -> jax.Array:
            g = g.astype(self.reduce_dtype)
            if split is not None:
                # The TPU scatters rows; of a gradient that lies transposed it would sum the whole.
                g = with_layout_constraint(g, Layout(major_to_minor=tuple(range(g.ndim))))
                for groups in self.steps("fsdp"):
                    g = jax.lax.psum_scatter(
                        g, "fsdp", scatter_dimension=split, axis_index_groups=groups, tiled=True
                    )
            if self.microbatches == 1:
                g = self.total(g, replicas(spec))
            return g.astype(x.dtype)

        @jax.custom_vjp
        def use(x: jax.Array) -> jax.Array:
            return x if split is None else over_tensor(gather, spec)(x)

        use.defvjp(lambda x: (use(x), None), lambda _, g: (over_tensor(reduce, spec)(g),))
        return use(x)

    def steps(self, axis: str) -> list[list[list[int]] | None]:
        """Groups of an axis among which a sum is scattered, one step after the other.

        Among all chips of a square or a torus at once, the TPU's compiler would sum whole gradients
        on each; first among every n-th and then among n neighbours, it scatters, and gathers. Among
        a few chips in each of several slices it is the other way round.
        """
        count, slices = self.mesh.shape[axis], self.mesh.shape["slice"]
        near = max(n for n in range(1, math.isqrt(count) + 1) if count % n == 0)
        if near == 1 or count * slices < self.mesh.size or (slices > 1 and count < 32):
            return [None]
        places = np.arange(count).reshape(-1, near)
        return [places.T.tolist(), places.tolist()]

    def total(self, g: jax.Array, axes: tuple[str, ...]) -> jax.Array:
        """The sum over `axes`; between slices every chip sends only its own share of it.

        Left to the compiler, most of the shares of two slices are cut from whole sums and put
        together by summing padded ones: twice the bytes inside a slice.
        """
        within = tuple(axis for axis in axes if axis != "slice")
        share = math.prod(self.mesh.shape[axis] for axis in within) * SUBLANES * LANES
        if self.mesh.shape["slice"] == 1 or g.size < share:
            return jax.lax.psum(g, axes)
        rows = jnp.pad(g.reshape(-1), (0, -g.size % share)).reshape(-1, LANES)
        steps = [(axis, groups) for axis in within for groups in self.steps(axis)]
        for axis, groups in steps:
            rows = jax.lax.psum_scatter(rows, axis, axis_index_groups=groups, tiled=True)
        rows = jax.lax.psum(rows, "slice")
        for axis, groups in reversed(steps):
            rows = jax.lax.all_gather(rows, axis, axis_index_groups=groups, tiled=True)
        return rows.reshape(-1)[: g.size].reshape(g.shape)

    def sum_once(self, path: tuple, g: jax.Array) -> jax.Array:
        """An accumulated gradient, summed over the devices that `at_use` left out."""
        spec = self.spec(path, g)
        reduce = functools.partial(self.total, axes=replicas(spec))
        return over_tensor(reduce, spec)(g.astype(self.reduce_dtype)).astype(g.dtype)


def replicas(spec: P) -> tuple[str, ...]:
    """The batch's mesh axes over which a parameter is not split."""
    return tuple(axis for axis in BATCH_AXES if axis not in spec)
