"""Where every array lives: one table of parameter paths, presets of logical axes, one mesh.

A parameter's path (its moments' paths end the same way) gives logical axes; the preset gives
each logical axis a mesh axis. Stacked blocks have their layer axis in front, never sharded.
"""

import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from echofm_jax.errors import InputError

TABLE = (  # the end of a parameter's path → logical axes of its last dimensions
    (r"attn/(query|key|value)/kernel", ("embed", "heads")),
    (r"attn/out/kernel", ("heads", "embed")),
    (r"mlp/fc1/kernel", ("embed", "mlp")),
    (r"mlp/fc2/kernel", ("mlp", "embed")),
    (r"patch_embed/kernel", ("embed", None, None)),
    (r"decoder/(embed|pred)/kernel", ("embed", None)),
)
PRESETS = {  # logical axis → mesh axis
    "dp": {},
    "fsdp": {"embed": "fsdp"},
}
BATCH = P(("data", "fsdp"))  # every preset splits the batch over all devices


def make_mesh(fsdp: int, batch_size: int, microbatches: int) -> Mesh:
    """All devices as a data × fsdp mesh."""
    devices = jax.device_count()
    if devices % fsdp:
        raise InputError(f"mesh.fsdp={fsdp} does not divide the {devices} devices")
    if (batch_size // microbatches) % devices:
        raise InputError(
            f"data.batch_size={batch_size} in optim.accumulate={microbatches} parts is not "
            f"divisible by the {devices} devices: change one of them"
        )
    return jax.make_mesh((devices // fsdp, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def state_shardings(state, mesh: Mesh, preset: str):
    """Shardings for a tree of shapes (parameters, moments or a whole state), from the table."""

    def sharding(path, leaf) -> NamedSharding:
        name = "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        spec = partition(name, leaf.shape, PRESETS[preset])
        for axis, size in zip(spec, leaf.shape, strict=False):
            if axis and size % mesh.shape[axis]:
                raise InputError(
                    f"mesh.fsdp={mesh.shape[axis]} does not divide {name} {list(leaf.shape)}"
                )
        return NamedSharding(mesh, spec)

    return jax.tree.map_with_path(sharding, state)


def partition(name: str, shape: tuple[int, ...], preset: dict[str, str]) -> P:
    """One parameter's PartitionSpec."""
    for pattern, axes in TABLE:
        if re.search(f"(^|/){pattern}$", name):
            layers = (None,) * (len(shape) - len(axes))
            return P(*layers, *(preset.get(axis) for axis in axes))
    return P()


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's part of a batch → global arrays, split over all devices."""
    sharding = NamedSharding(mesh, BATCH)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
