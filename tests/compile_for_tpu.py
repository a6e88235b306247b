"""Compiles the functions named on the command line for TPU topologies, in a process of its own.

    LIBTPU_INIT_ARGS=… python tests/compile_for_tpu.py OUT.json NAME...

Writes {NAME: {text, temporaries}}. Not a test: libtpu's flags must be set before it is loaded.
"""

import functools
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from echofm_jax.architecture import Architecture
from echofm_jax.model import Block


def mesh(topology: str, **axes: int) -> Mesh:
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    return Mesh(np.asarray(devices).reshape(*axes.values()), tuple(axes))


def abstract(mesh: Mesh, shape: tuple[int, ...], dtype, *spec):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))


def product():
    """One 1024³ product in bfloat16."""
    one = mesh("v5e:2x2", data=4)
    x = abstract(one, (1024, 1024), jnp.bfloat16)
    return jax.jit(lambda a, b: a @ b).lower(x, x)


def loop():
    """Five products of a scan, with a sum over `a` in each and one over `b` behind it."""
    grid = mesh("v5e:2x2", a=2, b=2)
    x = abstract(grid, (512, 512), jnp.float32, "a", "b")
    w = abstract(grid, (5, 256, 256), jnp.bfloat16)

    @jax.jit
    @jax.shard_map(mesh=grid, in_specs=(P("a", "b"), P()), out_specs=P(None, None), check_vma=False)
    def scanned(x, w):
        def body(x, w):
            return jax.lax.psum((x.astype(jnp.bfloat16) @ w).astype(jnp.float32), "a"), None

        x, _ = jax.lax.scan(body, x, w)
        return jax.lax.psum(x, "b")

    return scanned.lower(x, w)


def kernel():
    """Splash attention, 2 heads of 128, 512 tokens, in a scan of three."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    one = mesh("v5e:1x1", data=1)
    x = abstract(one, (2, 512, 128), jnp.bfloat16)
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.FullMask((512, 512))] * 2)
    blocks = splash_attention_kernel.BlockSizes(block_q=256, block_kv=512, block_kv_compute=512)
    attend = splash_attention_kernel.make_splash_mha_single_device(mask, block_sizes=blocks)

    def scanned(q, k, v):
        return jax.lax.scan(lambda q, _: (attend(q, k, v), None), q, None, length=3)[0]

    return jax.jit(scanned).lower(x, x, x)


def encoder_layer():
    """Forward and backward of a block of ViT-L's encoder, 8 clips, bfloat16, one chip.

    128 tokens instead of 393: kernels are unrolled, and compile for minutes at full length.
    """
    arch = Architecture(dtype="bfloat16")
    return layer(arch, 128, arch.width, arch.heads, arch.hidden)


def decoder_layer():
    """The same of its decoder, at full length."""
    arch = Architecture(dtype="bfloat16")
    sizes = (arch.decoder_width, arch.decoder_heads, arch.decoder_hidden)
    return layer(arch, 1 + arch.tokens, *sizes)


def layer(arch: Architecture, tokens: int, width: int, heads: int, hidden: int):
    one = mesh("v5e:1x1", data=1)
    make = functools.partial(Block, arch, width, heads, hidden)
    graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    params = jax.tree.map(lambda p: abstract(one, p.shape, p.dtype), nnx.to_pure_dict(state))
    x = abstract(one, (8, tokens, width), jnp.bfloat16)

    def loss(params, x):
        return nnx.merge(graph, params)(x).astype(jnp.float32).sum()

    with jax.set_mesh(one):
        return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x)


def main(out: str, *names: str) -> None:
    results = {}
    for name in names:
        began = time.monotonic()
        compiled = globals()[name]().compile()
        memory = compiled.memory_analysis()
        results[name] = {"text": compiled.as_text(), "temporaries": memory.temp_size_in_bytes}
        print(name, f"{time.monotonic() - began:.1f} s", file=sys.stderr)
    Path(out).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
