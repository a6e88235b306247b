"""Names and layouts of DINOv2's parameters: ours, the official code's, transformers'. One table.

Parameters that have the same key lie one after another in that tensor (q, k and v in the official
code). numpy only: imports neither JAX nor PyTorch.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from echofm_jax.errors import InputError
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.torch_weights import DENSE, SAME, TUBELET, Transform, check_state

LAYOUTS = ("official", "transformers")


class Row(NamedTuple):
    """One parameter, or one of every block where `path` begins with `blocks/`."""

    path: str  # in the JAX parameters; blocks are stacked in a leading axis
    jax_shape: str  # symbols of `_sizes`
    torch_shape: str  # this parameter's part of the tensor
    transform: Transform
    official: str  # key of the state dict; `#` is a block's number
    transformers: str = ""  # which has no heads


def _dense(path: str, inputs: str, outputs: str, *keys: str) -> list[Row]:
    kernel, bias = ([f"{key}.{name}" for key in keys] for name in ("weight", "bias"))
    return [
        Row(f"{path}/kernel", f"{inputs} {outputs}", f"{outputs} {inputs}", DENSE, *kernel),
        Row(f"{path}/bias", outputs, outputs, SAME, *bias),
    ]


def _norm(path: str, *keys: str) -> list[Row]:
    scale, bias = ([f"{key}.{name}" for key in keys] for name in ("weight", "bias"))
    return [
        Row(f"{path}/scale", "D", "D", SAME, *scale),
        Row(f"{path}/bias", "D", "D", SAME, *bias),
    ]


_THEIRS = "embeddings"
_ATTENTION = "attention.attention"
OUTSIDE = [
    Row("patch_embed/kernel", "pp 3 D", "D 3 p p", TUBELET,
        "patch_embed.proj.weight", f"{_THEIRS}.patch_embeddings.projection.weight"),
    Row("patch_embed/bias", "D", "D", SAME,
        "patch_embed.proj.bias", f"{_THEIRS}.patch_embeddings.projection.bias"),
    Row("cls_token", "D", "1 1 D", SAME, "cls_token", f"{_THEIRS}.cls_token"),
    Row("mask_token", "D", "1 D", SAME, "mask_token", f"{_THEIRS}.mask_token"),
    Row("registers", "R D", "1 R D", SAME, "register_tokens", f"{_THEIRS}.register_tokens"),
    Row("pos_cls", "D", "1 1 D", SAME, "pos_embed", f"{_THEIRS}.position_embeddings"),
    Row("pos_spatial", "N D", "1 N D", SAME, "pos_embed", f"{_THEIRS}.position_embeddings"),
    *_norm("norm", "norm", "layernorm"),
]  # fmt: skip
SCALES = [
    Row("scale1", "D", "D", SAME, "ls1.gamma", "layer_scale1.lambda1"),
    Row("scale2", "D", "D", SAME, "ls2.gamma", "layer_scale2.lambda1"),
]
BLOCK = [
    *_norm("norm1", "norm1", "norm1"),
    *_dense("attn/query", "D", "D", "attn.qkv", f"{_ATTENTION}.query"),
    *_dense("attn/key", "D", "D", "attn.qkv", f"{_ATTENTION}.key"),
    *_dense("attn/value", "D", "D", "attn.qkv", f"{_ATTENTION}.value"),
    *_dense("attn/out", "D", "D", "attn.proj", "attention.output.dense"),
    *_norm("norm2", "norm2", "norm2"),
]
FFN = {
    "mlp": [
        *_dense("mlp/fc1", "D", "M", "mlp.fc1", "mlp.fc1"),
        *_dense("mlp/fc2", "M", "D", "mlp.fc2", "mlp.fc2"),
    ],
    "swiglu": [
        *_dense("mlp/gate", "D", "M", "mlp.w12", "mlp.weights_in"),
        *_dense("mlp/value", "D", "M", "mlp.w12", "mlp.weights_in"),
        *_dense("mlp/fc2", "M", "D", "mlp.w3", "mlp.weights_out"),
    ],
}
HEAD = [
    *_dense("fc1", "D", "h", "mlp.0"),
    *_dense("fc2", "h", "h", "mlp.2"),
    *_dense("fc3", "h", "b", "mlp.4"),
    Row("last/kernel", "b K", "K b", DENSE, "last_layer.weight_v"),
    Row("last/norm", "K", "K 1", SAME, "last_layer.weight_g"),
]


class _Part(NamedTuple):
    """Where one array of the JAX parameters lies in a state dict."""

    path: str
    layer: int | None
    key: str
    jax_shape: tuple[int, ...]
    torch_shape: tuple[int, ...]
    transform: Transform


def to_state(params: Mapping, arch: ImageArchitecture, layout: str) -> dict[str, np.ndarray]:
    """Backbone parameters (a nested dict of arrays) → state dict of contiguous arrays.

    Raises InputError when the parameters are not those of `arch`.
    """
    return _to_state(params, list(_backbone(arch, layout)))


def from_state(state: Mapping[str, np.ndarray], arch: ImageArchitecture, layout: str) -> dict:
    """State dict of a backbone → parameters in float32, a nested dict.

    Raises InputError listing the keys that are missing, unknown or misshapen.
    """
    return _from_state(state, list(_backbone(arch, layout)))


def head_to_state(params: Mapping) -> dict[str, np.ndarray]:
    """A projection head's parameters → the official state dict."""
    sizes = {
        "D": params["fc1"]["kernel"].shape[0],
        "h": params["fc2"]["kernel"].shape[0],
        "b": params["last"]["kernel"].shape[0],
        "K": params["last"]["kernel"].shape[1],
    }
    return _to_state(params, list(_parts(HEAD, sizes, "official")))


def head_from_state(state: Mapping[str, np.ndarray]) -> dict:
    """The official state dict of a projection head → its parameters. Raises InputError."""
    for key in ("mlp.0.weight", "last_layer.weight_v"):
        if key not in state:
            raise InputError(f"weights hold no projection head: {key} is missing")
    (hidden, width), (prototypes, bottleneck) = (
        state[key].shape for key in ("mlp.0.weight", "last_layer.weight_v")
    )
    sizes = {"D": width, "h": hidden, "b": bottleneck, "K": prototypes}
    return _from_state(state, list(_parts(HEAD, sizes, "official")))


def _backbone(arch: ImageArchitecture, layout: str) -> Iterator[_Part]:
    sizes = {
        "D": arch.width,
        "M": arch.hidden,
        "N": arch.positions,
        "R": arch.registers,
        "p": arch.patch,
        "pp": arch.patch**2,
    }
    yield from _parts([row for row in OUTSIDE if arch.registers or row.path != "registers"],
                      sizes, layout)  # fmt: skip
    prefix = {"official": "blocks", "transformers": "encoder.layer"}[layout]
    rows = [*BLOCK, *FFN[arch.ffn], *(SCALES if arch.layer_scale else [])]
    for layer in range(arch.depth):
        for part in _parts(rows, sizes, layout):
            yield part._replace(
                path=f"blocks/{part.path}", key=f"{prefix}.{layer}.{part.key}", layer=layer
            )


def _parts(rows: list[Row], sizes: dict[str, int], layout: str) -> Iterator[_Part]:
    def shape(symbols: str) -> tuple[int, ...]:
        return tuple(sizes.get(symbol) or int(symbol) for symbol in symbols.split())

    for row in rows:
        yield _Part(row.path, None, getattr(row, layout), shape(row.jax_shape),
                    shape(row.torch_shape), row.transform)  # fmt: skip


def _axis(parts: list[_Part]) -> int:
    """Along which the parts of a tensor lie one after another."""
    return 1 if parts[0].torch_shape[0] == 1 else 0


def _by_key(parts: list[_Part]) -> dict[str, list[_Part]]:
    found: dict[str, list[_Part]] = {}
    for part in parts:
        found.setdefault(part.key, []).append(part)
    return found


def _shape_of(parts: list[_Part]) -> tuple[int, ...]:
    """Of the tensor that these parts make."""
    axis, shape = _axis(parts), list(parts[0].torch_shape)
    shape[axis] = sum(part.torch_shape[axis] for part in parts)
    return tuple(shape)


def _to_state(params: Mapping, parts: list[_Part]) -> dict[str, np.ndarray]:
    def tensor(part: _Part) -> np.ndarray:
        x = params
        for name in part.path.split("/"):
            if name not in x:
                raise InputError(f"parameters: {part.path} is missing: not those of this backbone")
            x = x[name]
        x = np.asarray(x if part.layer is None else x[part.layer])
        if x.shape != part.jax_shape:
            raise InputError(
                f"parameters: {part.path} is {list(x.shape)}, not {list(part.jax_shape)}: not "
                "those of this architecture"
            )
        return part.transform[0](x, part.torch_shape)

    return {
        key: np.ascontiguousarray(np.concatenate([tensor(part) for part in of_key], _axis(of_key)))
        for key, of_key in _by_key(parts).items()
    }


def _from_state(state: Mapping[str, np.ndarray], parts: list[_Part]) -> dict:
    by_key = _by_key(parts)
    shapes = {key: _shape_of(of_key) for key, of_key in by_key.items()}
    check_state(state, shapes, "backbone")
    found: dict[str, list[np.ndarray]] = {}  # path → its layers
    for key, of_key in by_key.items():
        axis = _axis(of_key)
        ends = np.cumsum([part.torch_shape[axis] for part in of_key])[:-1]
        tensors = np.split(np.asarray(state[key], np.float32), ends, axis)
        for part, tensor in zip(of_key, tensors, strict=True):
            value = np.ascontiguousarray(part.transform[1](tensor, part.jax_shape))
            found.setdefault(part.path, []).append(value)
    params: dict = {}
    for path, layers in found.items():
        *parents, name = path.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = np.stack(layers) if path.startswith("blocks/") else layers[0]
    return params
