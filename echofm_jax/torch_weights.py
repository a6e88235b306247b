"""Names and layouts of parameters, JAX and PyTorch: one table, read in both directions.

The PyTorch side is the state dict of the public EchoFM code, also that of
`echofm_jax.pytorch.EchoFM`. numpy only: imports neither JAX nor PyTorch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from echofm_jax.architecture import Architecture
from echofm_jax.errors import InputError

# How a parameter's values go into the other side's shape: (to PyTorch, to JAX).
Transform = tuple[Callable, Callable]


def _reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return x.reshape(shape)


def _transpose(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return x.T.reshape(shape)


def _tubelet_to_jax(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return x.reshape(*x.shape[:2], -1).T.reshape(shape)  # [D, 3, upp] -> [upp, 3, D]


SAME: Transform = (_reshape, _reshape)  # PyTorch keeps axes of length 1
DENSE: Transform = (_transpose, _transpose)
TUBELET: Transform = (_transpose, _tubelet_to_jax)  # [upp, 3, D].T is [D, 3, upp]


class Row(NamedTuple):
    """One parameter, or one of every block where `key` holds a `#` for the block's number."""

    path: str  # in the JAX parameters; blocks are stacked in a leading axis
    key: str  # in the PyTorch state dict; blocks are numbered
    jax_shape: str  # symbols of `_sizes`
    torch_shape: str
    transform: Transform


def _norm(path: str, key: str, width: str) -> list[Row]:
    return [
        Row(f"{path}/scale", f"{key}.weight", width, width, SAME),
        Row(f"{path}/bias", f"{key}.bias", width, width, SAME),
    ]


def _dense(path: str, key: str, inputs: str, outputs: str) -> list[Row]:
    return [
        Row(f"{path}/kernel", f"{key}.weight", f"{inputs} {outputs}", f"{outputs} {inputs}", DENSE),
        Row(f"{path}/bias", f"{key}.bias", outputs, outputs, SAME),
    ]


def _block(path: str, key: str, width: str, hidden: str) -> list[Row]:
    return [
        *_norm(f"{path}/norm1", f"{key}.norm1", width),
        *_dense(f"{path}/attn/query", f"{key}.attn.q", width, width),
        *_dense(f"{path}/attn/key", f"{key}.attn.k", width, width),
        *_dense(f"{path}/attn/value", f"{key}.attn.v", width, width),
        *_dense(f"{path}/attn/out", f"{key}.attn.proj", width, width),
        *_norm(f"{path}/norm2", f"{key}.norm2", width),
        *_dense(f"{path}/mlp/fc1", f"{key}.mlp.fc1", width, hidden),
        *_dense(f"{path}/mlp/fc2", f"{key}.mlp.fc2", hidden, width),
    ]


TABLE = [
    Row("encoder/patch_embed/kernel", "patch_embed.proj.weight", "upp 3 D", "D 3 u p p", TUBELET),
    Row("encoder/patch_embed/bias", "patch_embed.proj.bias", "D", "D", SAME),
    Row("encoder/cls_token", "cls_token", "D", "1 1 D", SAME),
    Row("encoder/pos_spatial", "pos_embed_spatial", "L D", "1 L D", SAME),
    Row("encoder/pos_temporal", "pos_embed_temporal", "t D", "1 t D", SAME),
    Row("encoder/pos_cls", "pos_embed_class", "D", "1 1 D", SAME),
    *_block("encoder/blocks", "blocks.#", "D", "M"),
    *_norm("encoder/norm", "norm", "D"),
    Row("projector/cls_token", "decoder_prj_cls_token", "D", "1 1 D", SAME),
    *_block("projector/block", "decoder_block", "D", "M"),
    *_norm("projector/norm", "prj_norm", "D"),
    *_dense("decoder/embed", "decoder_embed", "D", "Dd"),
    Row("decoder/cls_token", "decoder_cls_token", "Dd", "1 1 Dd", SAME),
    Row("decoder/mask_token", "mask_token", "Dd", "1 1 Dd", SAME),
    Row("decoder/pos_spatial", "decoder_pos_embed_spatial", "L Dd", "1 L Dd", SAME),
    Row("decoder/pos_temporal", "decoder_pos_embed_temporal", "t Dd", "1 t Dd", SAME),
    Row("decoder/pos_cls", "decoder_pos_embed_class", "Dd", "1 1 Dd", SAME),
    *_block("decoder/blocks", "decoder_blocks.#", "Dd", "Md"),
    *_norm("decoder/norm", "decoder_norm", "Dd"),
    *_dense("decoder/pred", "decoder_pred", "Dd", "pixels"),
]

# Constructor arguments of the public PyTorch code, and our fields of Architecture and Objective.
MODEL_ARGS = {
    "img_size": "size",
    "patch_size": "patch",
    "num_frames": "frames",
    "t_patch_size": "tubelet",
    "embed_dim": "width",
    "depth": "depth",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
    "decoder_embed_dim": "decoder_width",
    "decoder_depth": "decoder_depth",
    "decoder_num_heads": "decoder_heads",
    "pred_t_dim": "pred_frames",
}
OBJECTIVE_ARGS = {
    "norm_pix_loss": "norm_targets",
    "phase_prior": "prior",
    "prior_center_alpha": "prior_alpha",
    "triplet_weight": "triplet_weight",
    "triplet_margin": "triplet_margin",
    "cycle_weight": "cycle_weight",
    "cycle_tau": "cycle_tau",
}
PRIORS = {"pixel": "pixel", "embed": "embedding"}  # values of phase_prior


def to_torch(params: Mapping, arch: Architecture) -> dict[str, np.ndarray]:
    """JAX parameters (a nested dict of arrays) -> PyTorch state dict of contiguous arrays.

    Raises InputError when the parameters are not those of `arch`.
    """
    state, wrong = {}, []
    for row in TABLE:
        x = np.asarray(_leaf(params, row.path))
        depth = _depth(row, arch)
        expected = (depth,) * (depth is not None) + _shape(row.jax_shape, arch)
        if x.shape != expected:
            wrong.append(f"{row.path} {list(x.shape)}, not {list(expected)}")
            continue
        shape = _shape(row.torch_shape, arch)
        for key, layer in zip(_keys(row, arch), [x] if depth is None else x, strict=True):
            state[key] = np.ascontiguousarray(row.transform[0](layer, shape))
    if wrong:
        raise InputError(f"parameters: not those of this architecture: {some(wrong)}")
    return state


def from_torch(state: Mapping[str, np.ndarray], arch: Architecture) -> dict:
    """PyTorch state dict -> JAX parameters in float32, a nested dict.

    Raises InputError listing the keys that are missing, unknown or misshapen.
    """
    check_state(state, torch_shapes(arch), "EchoFM")
    params: dict = {}
    for row in TABLE:
        shape = _shape(row.jax_shape, arch)
        layers = [
            np.ascontiguousarray(row.transform[1](np.asarray(state[key], np.float32), shape))
            for key in _keys(row, arch)
        ]
        node = params
        *parents, name = row.path.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = layers[0] if _depth(row, arch) is None else np.stack(layers)
    return params


def fill_projector_norm(state: Mapping[str, np.ndarray]) -> tuple[dict, list[str]]:
    """-> (state dict with `prj_norm`, the keys that were missing).

    Before the projector had its own LayerNorm it used the encoder's, so `norm` takes its place.
    """
    missing = [
        key
        for key in ("prj_norm.weight", "prj_norm.bias")
        if key not in state and key.removeprefix("prj_") in state
    ]
    return dict(state) | {key: state[key.removeprefix("prj_")] for key in missing}, missing


def to_arguments(arch: Mapping, objective: Mapping) -> dict:
    """Fields of an Architecture and an Objective -> constructor arguments of the public code."""
    arguments = {theirs: arch[ours] for theirs, ours in MODEL_ARGS.items()}
    arguments |= {theirs: objective[ours] for theirs, ours in OBJECTIVE_ARGS.items()}
    priors = {ours: theirs for theirs, ours in PRIORS.items()}
    arguments["phase_prior"] = priors[arguments["phase_prior"]]
    if arch.get("decoder_mlp_ratio"):  # not in the public code, which refuses what it cannot build
        arguments["decoder_mlp_ratio"] = arch["decoder_mlp_ratio"]
    return arguments | {"in_chans": 3, "sep_pos_embed": True, "cls_embed": True}


def to_objective(arguments: Mapping) -> dict:
    """Constructor arguments of the public code -> the fields of an Objective that they set."""
    fields = {
        ours: arguments[theirs] for theirs, ours in OBJECTIVE_ARGS.items() if theirs in arguments
    }
    if "prior" in fields:
        fields["prior"] = PRIORS[fields["prior"]]
    return fields


def torch_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Every key of the PyTorch state dict with its shape."""
    return {key: _shape(row.torch_shape, arch) for row in TABLE for key in _keys(row, arch)}


def some(names: Sequence[str]) -> str:
    """The first names of a list that may be long, for a message of one line."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def check_state(
    state: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], model: str
) -> None:
    """Raise InputError unless a state dict has exactly the `expected` keys and shapes."""
    problems = {
        "missing": [key for key in expected if key not in state],
        "unknown": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} {list(state[key].shape)}, not {list(shape)}"
            for key, shape in expected.items()
            if key in state and state[key].shape != shape
        ],
    }
    found = [f"{len(keys)} {what}: {some(keys)}" for what, keys in problems.items() if keys]
    if found:
        raise InputError(f"weights are not those of this {model}: {'; '.join(found)}")


def _sizes(arch: Architecture) -> dict[str, int]:
    return {
        "D": arch.width,
        "M": arch.hidden,
        "Dd": arch.decoder_width,
        "Md": arch.decoder_hidden,
        "L": arch.positions,
        "t": arch.steps,
        "u": arch.tubelet,
        "p": arch.patch,
        "upp": arch.tubelet * arch.patch**2,
        "pixels": arch.pred_tubelet * arch.patch**2 * 3,
        "3": 3,
        "1": 1,
    }


def _shape(symbols: str, arch: Architecture) -> tuple[int, ...]:
    sizes = _sizes(arch)
    return tuple(sizes[symbol] for symbol in symbols.split())


def _depth(row: Row, arch: Architecture) -> int | None:
    """How many blocks are stacked in this row; None for a parameter outside the stacks."""
    if "#" not in row.key:
        return None
    return arch.depth if row.path.startswith("encoder/") else arch.decoder_depth


def _keys(row: Row, arch: Architecture) -> list[str]:
    depth = _depth(row, arch)
    return [row.key] if depth is None else [row.key.replace("#", str(i)) for i in range(depth)]


def _leaf(params: Mapping, path: str) -> np.ndarray:
    for name in path.split("/"):
        if name not in params:
            raise InputError(f"parameters: {path} is missing: this is not a checkpoint of EchoFM")
        params = params[name]
    return params
