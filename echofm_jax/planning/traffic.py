"""Work of one compiled instruction: bytes in HBM as they lie there, and FLOPs of its products."""

import math
import re
from collections.abc import Iterator

from echofm_jax.planning.hlo import Array, Instruction, Module, Run

# Instructions that move nothing themselves, or whose contents are counted one by one.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call",
        "conditional", "after-all", "opt-barrier", "partition-id", "replica-id"}  # fmt: skip


def hbm_bytes(module: Module, run: Run) -> int:
    """Bytes that one run of an instruction reads and writes in HBM, padding included.

    What takes a slice of an operand reads the slice, and what updates a slice in place writes it.
    """
    i = run.instruction
    if i.opcode in FREE or i.opcode.endswith("-done"):
        return 0
    if i.opcode == "fusion":
        return _fusion_bytes(module, i)
    if i.opcode == "copy-start":  # (copy, original, flag)
        return _in_hbm(i.arrays[:2])
    if i.opcode == "slice-start":  # ((original), slice, flag)
        original, part = i.arrays[:2]
        return (original.in_hbm + part.in_hbm) * part.padded_bytes
    operands = [module.defined[run.computation].get(name) for name in i.operands]
    if i.opcode == "dynamic-update-slice":
        return 2 * _in_hbm(operands[1].arrays)
    if i.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * _in_hbm(i.arrays)
    return sum(_in_hbm(o.arrays) for o in operands if o is not None) + _in_hbm(i.arrays)


def matrix_flops(module: Module, computation: str, i: Instruction) -> int:
    """FLOPs of the matrix products in an instruction, 2 per multiply-add.

    TPU code has products as convolutions; batch dimensions are spatial ones, dilated so that most
    of the window falls between elements. Only what meets an element is counted.
    """
    if i.opcode == "fusion":
        return sum(
            matrix_flops(module, name, inner)
            for name in i.called
            for inner in module.computations[name]
        )
    if i.opcode != "convolution":
        return 0
    left, right = (module.defined[computation][name].arrays[0].dims for name in i.operands[:2])
    out = i.arrays[0].dims
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.rest)
    left_at, right_at, out_at = (dict(zip(t, range(len(t)), strict=True)) for t in labels.groups())
    spatial = sorted(label for label in out_at if label.isdigit())
    window = _window(i.rest, len(spatial))
    meets = math.prod(
        _meetings(left[left_at[s]], out[out_at[s]], *window[k]) for k, s in enumerate(spatial)
    )
    return 2 * out[out_at["b"]] * right[right_at["o"]] * right[right_at["i"]] * meets


def _window(text: str, dims: int) -> list[tuple[int, int, int, int, int]]:
    """Per spatial dimension: size, stride, padding in front, dilation of input and of window."""
    found = re.search(r"window=\{([^}]*)\}", text)
    fields = dict(part.split("=") for part in found.group(1).split()) if found else {}

    def values(name: str, default: int) -> list[int]:
        words = fields[name].split("x") if name in fields else [str(default)] * dims
        return [int(word.split("_")[0]) for word in words]

    names = (("size", 1), ("stride", 1), ("pad", 0), ("lhs_dilate", 1), ("rhs_dilate", 1))
    return list(zip(*(values(*name) for name in names), strict=True))


def _meetings(
    size: int, out: int, window: int, stride: int, pad: int, dilate: int, spread: int
) -> int:
    """Pairs of output position and window position that fall on one of `size` elements."""
    if window == 1 and dilate == 1 and not pad:
        return out
    last = (size - 1) * dilate
    at = (o * stride + w * spread - pad for o in range(out) for w in range(window))
    return sum(0 <= position <= last and position % dilate == 0 for position in at)


def _fusion_bytes(module: Module, fusion: Instruction) -> int:
    body = module.computations[fusion.called[0]]
    read = sum(
        min(_read(module, fusion.called[0], inner), _in_hbm(inner.arrays))
        for inner in body
        if inner.opcode == "parameter"
    )
    written = [a for a in fusion.arrays if a.in_hbm]
    for whole, part in _updates(module, fusion.called[0]):
        kept = next((a for a in written if a.bytes == whole.bytes), None)
        if kept is not None:
            written.remove(kept)
            written.append(part)
    return read + sum(a.padded_bytes for a in written)


def _read(module: Module, computation: str, i: Instruction) -> int:
    """Bytes that a fusion reads of one of its values: of slices their size, else all of it."""
    total = 0
    for use in module.users[computation].get(i.name, []):
        if use.opcode == "bitcast":
            total += _read(module, computation, use)
        elif use.opcode == "dynamic-slice":
            total += use.arrays[0].padded_bytes
        elif use.opcode == "dynamic-update-slice" and use.operands[0] == i.name:
            continue  # updated in place
        elif use.opcode == "fusion":
            number = str(use.operands.index(i.name))
            inner = next(
                p
                for p in module.computations[use.called[0]]
                if p.opcode == "parameter" and p.arguments == number
            )
            total += _read(module, use.called[0], inner)
        else:
            total += sum(a.padded_bytes for a in i.arrays)
    return total


def _updates(module: Module, computation: str) -> Iterator[tuple[Array, Array]]:
    """(whole array, part that is written) of every update in place in a fusion."""
    for inner in module.computations[computation]:
        if inner.opcode == "dynamic-update-slice":
            part = module.defined[computation].get(inner.operands[1])
            if part is not None:
                yield inner.arrays[0], part.arrays[0]
        elif inner.opcode == "fusion":
            yield from _updates(module, inner.called[0])


def _in_hbm(found: tuple[Array, ...]) -> int:
    return sum(a.padded_bytes for a in found if a.in_hbm)
