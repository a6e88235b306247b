"""Where every array lives: one table of parameter paths, presets of logical axes, one mesh.

A parameter's path (its moments' and its average's paths end the same way) gives logical axes; the
preset gives each logical axis a mesh axis. Stacked blocks have their layer axis in front, never
sharded. What is not in the table is small and whole on every device.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from echofm_jax.errors import InputError

TABLE = (  # the end of a parameter's path → logical axes of its last dimensions
    (r"attn/(query|key|value)/kernel", ("embed", "heads")),
    (r"attn/(query|key|value)/bias", ("heads",)),
    (r"mlp/(fc1|gate|value)/kernel", ("embed", "mlp")),
    (r"mlp/(fc1|gate|value)/bias", ("mlp",)),
    (r"(attn/out|mlp/fc2)/kernel", ("inner", "out")),
)
PRESETS = {  # logical axis → mesh axis
    "dp": {},
    "fsdp": {"embed": "fsdp", "inner": "fsdp"},  # rows: any 8 of them fill a tile, columns 128
    "fsdp_tp": {  # Megatron's split of a layer
        "embed": "fsdp", "heads": "tensor", "mlp": "tensor", "inner": "tensor", "out": "fsdp",
    },
}  # fmt: skip
AXES = ("slice", "data", "fsdp", "tensor")  # only `slice` crosses the data centre's network
BATCH = P(("slice", "data", "fsdp"))  # every preset splits the batch over these


def make_mesh(
    *, slices: int = 1, fsdp: int = 1, tensor: int = 1, devices: Sequence | None = None
) -> Mesh:
    """Devices as a slice × data × fsdp × tensor mesh; `data` takes what the others leave.

    Neighbours on `tensor`, then on `fsdp`, are neighbours in the chips' own network.

    Args:
      slices: TPU slices, joined by the data centre's network.
      fsdp: devices that share the parameters.
      tensor: devices that share a layer's heads and hidden units.
      devices: all of this cluster by default; or those of a topology without a machine.

    Raises:
      InputError: the axes do not multiply to the devices, or the devices are in other slices.
    """
    devices = jax.devices() if devices is None else list(devices)
    if len(devices) % (slices * fsdp * tensor):
        raise InputError(
            f"mesh.slices={slices} × mesh.fsdp={fsdp} × mesh.tensor={tensor} does not divide the "
            f"{len(devices)} devices: change one of them"
        )
    shape = (len(devices) // (slices * fsdp * tensor), fsdp, tensor)
    if devices[0].platform == "tpu":
        present = len({getattr(device, "slice_index", 0) for device in devices})
        if present != slices:
            raise InputError(
                f"mesh.slices={slices}, but the devices are of {present}: set mesh.slices={present}"
            )
        if slices > 1:
            grid = mesh_utils.create_hybrid_device_mesh(
                (1, *shape), (slices, 1, 1, 1), devices, allow_split_physical_axes=True
            )
        else:
            grid = mesh_utils.create_device_mesh(
                (1, *shape), devices, allow_split_physical_axes=True
            )
    else:  # no torus to fit into; consecutive devices share a host
        grid = np.asarray(devices).reshape(slices, *shape)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def check_batch(batch_size: int, microbatches: int, mesh: Mesh) -> None:
    """Refuse a batch whose parts do not split evenly over the mesh."""
    parts = math.prod(mesh.shape[axis] for axis in BATCH[0])
    if batch_size % (parts * microbatches):
        raise InputError(
            f"data.batch_size={batch_size} in optim.accumulate={microbatches} parts is not "
            f"divisible by the {parts} devices that share it: change one of them"
        )


def state_shardings(state, mesh: Mesh, preset: str):
    """Shardings for a tree of shapes (parameters, moments or a whole state), from the table."""

    def sharding(path, leaf) -> NamedSharding:
        name = path_name(path)
        spec = partition(name, leaf.shape, preset)
        for axis, size in zip(spec, leaf.shape, strict=False):
            if axis and size % mesh.shape[axis]:
                raise InputError(
                    f"mesh.{axis}={mesh.shape[axis]} does not divide {name} {list(leaf.shape)}"
                )
        return NamedSharding(mesh, spec)

    return jax.tree.map_with_path(sharding, state)


def path_name(path: tuple) -> str:
    """A leaf's path as `encoder/blocks/mlp/fc1/kernel`, in a dict, a named tuple or a module."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")


def partition(name: str, shape: tuple[int, ...], preset: str) -> P:
    """One parameter's PartitionSpec."""
    for pattern, axes in TABLE:
        if re.search(f"(^|/){pattern}$", name):
            layers = (None,) * (len(shape) - len(axes))
            return P(*layers, *(PRESETS[preset].get(axis) for axis in axes))
    return P()


def only(spec: P, axes: Sequence[str]) -> P:
    """A PartitionSpec without the mesh axes that are not in `axes`."""
    return P(*(axis if axis in axes else None for axis in spec))


def over_tensor(function: Callable, spec: P) -> Callable:
    """`function` of each device's own part over `tensor`, to call inside a step's `shard_map`.

    The partitioner cannot split what it cannot see into (a collective, a kernel): left to itself,
    it gathers the operands. All arguments and the result are split as `spec` has `tensor`.
    """
    spec = only(spec, ("tensor",))
    return jax.shard_map(
        function, in_specs=spec, out_specs=spec, axis_names={"tensor"}, check_vma=False
    )


def over_heads(attention: Callable, heads: int) -> Callable:
    """`attention(q, k, v, heads)` of [B, N, H·d] arrays: each device computes its own heads.

    Outside of a step's `shard_map` a device has all of them.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.manual_axes:
        return functools.partial(attention, heads=heads)
    own = functools.partial(attention, heads=heads // mesh.shape["tensor"])
    return over_tensor(own, P(None, None, "tensor"))


def mean_over_devices(x: jax.Array) -> jax.Array:
    """Mean of a device's own scalar over those that share the batch, inside a step's `shard_map`;
    elsewhere a device has the whole batch, and `x` is that mean already.
    """
    axes = jax.sharding.get_abstract_mesh().manual_axes
    return jax.lax.pmean(x, axes) if axes else x


def sum_over_devices(x: jax.Array) -> jax.Array:
    """Sum of a device's own array over those that share the batch, as `mean_over_devices`."""
    axes = jax.sharding.get_abstract_mesh().manual_axes
    return jax.lax.psum(x, axes) if axes else x


def max_over_devices(x: jax.Array) -> jax.Array:
    """The largest over devices, elementwise; it has no gradient."""
    axes = jax.sharding.get_abstract_mesh().manual_axes
    return jax.lax.pmax(x, axes) if axes else x


def of_all_devices(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A device's rows [B, ...] → (those of the whole batch, the number of the first of its own).

    A gradient goes back to the device that a row came from.
    """
    axes = jax.sharding.get_abstract_mesh().manual_axes
    if not axes:
        return x, jnp.zeros((), jnp.int32)
    return jax.lax.all_gather(x, axes, tiled=True), jax.lax.axis_index(axes) * x.shape[0]


def batch_share(batch_size: int, mesh: Mesh) -> tuple[int, int]:
    """Which share of every batch this process loads, and how many shares there are.

    Processes whose devices hold the same clips (`tensor` crosses hosts) load the same share.

    Raises:
      InputError: two processes hold some clips in common, but not all of theirs.
    """
    held: dict[int, set[int]] = {}  # process → first clips of its devices' parts
    parts = NamedSharding(mesh, BATCH).devices_indices_map((batch_size,))
    for device, (clips,) in parts.items():
        held.setdefault(device.process_index, set()).add(clips.start or 0)
    shares = sorted({tuple(sorted(clips)) for clips in held.values()})
    if sum(map(len, shares)) != len(set().union(*held.values())):
        raise InputError(
            f"mesh.tensor={mesh.shape['tensor']} lays some clips on two hosts that differ in "
            "others: make it smaller, or a multiple of a host's devices"
        )
    return shares.index(tuple(sorted(held[jax.process_index()]))), len(shares)


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's part of a batch → global arrays, split over all devices."""
    sharding = NamedSharding(mesh, BATCH)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
