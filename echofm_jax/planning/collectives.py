"""Collectives of a compiled step: kind, mesh axes, bytes a step, and whether work goes on beside.

Within a slice they are HLO instructions, alone or inside a fusion; between slices the compiler
replaces them by sends to the runtime that drives the data centre's network.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping

import numpy as np

from echofm_jax.planning.hlo import Instruction, Module, Run, arrays

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
         "collective-broadcast", "ragged-all-to-all")  # fmt: skip
# Reduces, then keeps one part: the compiler's reduce-scatter before it gets that name.
SCATTER_FUSION = "all-reduce-scatter"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective of the step."""

    kind: str
    axes: tuple[str, ...]  # mesh axes that it crosses
    group: int  # devices that take part together
    dtypes: tuple[str, ...]
    bytes: int  # of one run: the larger of what a chip gives and what it gets, unpadded
    times: int  # runs in a step
    network: str  # `ici` within a slice, `dcn` between slices
    asynchronous: bool  # the schedule has other work between its start and its end
    overlap_cycles: int  # the compiler's estimate of that work, for one run
    place: str  # op_name

    @property
    def sent(self) -> float:
        """Bytes that a chip must send in one run, at least (ring or torus algorithms)."""
        if self.kind == "collective-permute":  # its groups are pairs of source and target
            return float(self.bytes)
        share = (self.group - 1) / self.group if self.group else 0.0
        return self.bytes * share * (2 if self.kind == "all-reduce" else 1)


def collectives(module: Module, mesh: Mapping[str, int]) -> list[Collective]:
    """All collectives of a step.

    Args:
      module: parsed text of the compiled step.
      mesh: axis name → size, in the mesh's order; partition numbers count through it.
    """
    chains: list[list[tuple[int, Run, Instruction, str]]] = []
    unfinished: dict[tuple, list] = {}
    for at, run in enumerate(module.runs):
        for kind, inner in _inside(module, run.instruction):
            chain = [(at, run, inner, kind)]
            # An asynchronous collective is in several fusions: its start, and its parts.
            part = inner.attribute(
                r'"async_collective_fusion_config":\{[^{}]*?"flag_start":"(-?\d+)"'
            )
            names = (inner.attribute(r"channel_id=(\d+)"), inner.attribute(r'chain_id="(\d+)"'))
            same = (kind, run.computation, *names)
            if part and int(part) >= 0 and same in unfinished:
                unfinished[same] += chain
                continue
            chains.append(chain)
            if part:
                unfinished[same] = chain
    found = [_collective(module, chain, mesh) for chain in chains]
    return found + [_between_slices(module, at, mesh) for at in _sends(module)]


def summary(found: list[Collective]) -> list[dict]:
    """Alike ones together, most bytes first; bytes, and bytes sent, of a whole step."""
    rows: dict[tuple, dict] = {}
    for c in found:
        dtype, axes = "+".join(c.dtypes), "+".join(c.axes) or "none"
        row = rows.setdefault(
            (c.network, c.kind, axes, dtype, c.asynchronous),
            {"network": c.network, "kind": c.kind, "axes": axes, "dtype": dtype,
             "asynchronous": c.asynchronous, "count": 0, "bytes": 0, "sent": 0.0},
        )  # fmt: skip
        row["count"] += c.times
        row["bytes"] += c.times * c.bytes
        row["sent"] += c.times * c.sent
    return sorted(rows.values(), key=lambda row: -row["bytes"])


def groups(text: str, devices: int) -> np.ndarray:
    """`replica_groups=…` in any of HLO's notations → partition numbers [groups, members].

    `{{0,1},{2,3}}`; `[2,2]<=[4]` and `[2,2]<=[2,2]T(1,0)` (iota, reshaped and transposed);
    `mesh['a'=2,'b'=2] {'b'}` (along named axes of a mesh, or parts of them: `'b':(1)2`).
    """
    text = text.strip()
    if text.startswith("mesh["):
        return _mesh_groups(text)
    if text.startswith("["):
        found = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
        shape, dims, order = (_numbers(g) for g in found.groups())
        ids = np.arange(np.prod(dims)).reshape(dims)
        return ids.transpose(order or None).reshape(shape)
    explicit = [_numbers(g) for g in re.findall(r"\{([\d,]+)\}", text)]
    return np.array(explicit) if explicit else np.arange(devices)[None]


def crossed(members: np.ndarray, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """The mesh axes along which the members [groups, n] of a group differ."""
    coordinates = np.stack(np.unravel_index(members, tuple(mesh.values())), -1)
    moves = (coordinates != coordinates[:, :1]).any((0, 1))
    return tuple(name for name, move in zip(mesh, moves, strict=True) if move)


def _inside(module: Module, i: Instruction) -> Iterator[tuple[str, Instruction]]:
    """Collectives that an instruction is, or that a fusion or an asynchronous start holds."""
    kind = i.opcode.removesuffix("-start")
    if kind in KINDS:
        yield kind, i
    elif i.opcode in ("fusion", "async-start"):
        for name in i.called:
            for kind, inner in _members(module, name):
                scatter = name.startswith(SCATTER_FUSION) and kind == "all-reduce"
                yield ("reduce-scatter" if scatter else kind), inner


def _members(module: Module, computation: str) -> Iterator[tuple[str, Instruction]]:
    for inner in module.computations[computation]:
        yield from _inside(module, inner)


def _collective(module: Module, chain: list, mesh: Mapping[str, int]) -> Collective:
    at, run, inner, kind = chain[0]
    last = _end(module, at, run) if len(chain) == 1 else chain[-1][0]
    devices = int(np.prod(list(mesh.values())))
    if kind == "collective-permute":
        text = inner.attribute(r"source_target_pairs=(\{\{.*?\}\})")
    else:
        text = inner.attribute(r"replica_groups=(mesh\[.*?\}|\{\{.*?\}\}|\{\}|\[[^ ]*)")
    members = groups(text, devices)
    results = inner.arrays
    if inner.opcode.endswith("-start") and kind != "all-reduce":  # (operands, results, …)
        parts = re.match(r"\((\(.*?\)|[^(]\S*), (.*)\)$", inner.shape)
        results = arrays(parts.group(2)) if parts else results
    size = sum(a.bytes for a in results)
    if inner.opcode.startswith("reduce-scatter"):
        size *= members.shape[1]  # what a chip gives
    return Collective(
        kind=kind,
        axes=crossed(members, mesh),
        group=members.shape[1],
        dtypes=tuple(sorted({a.dtype for a in results if a.dims})) or (results[0].dtype,),
        bytes=size,
        times=run.times,
        network="ici",
        asynchronous=last > at,
        overlap_cycles=_between(module, at, last),
        place=inner.op_name or run.instruction.op_name,
    )


def _end(module: Module, at: int, run: Run) -> int:
    """Where an asynchronous instruction's `-done` stands; a synchronous one ends where it is."""
    if not run.instruction.opcode.endswith("-start"):
        return at
    for later in range(at + 1, len(module.runs)):
        other = module.runs[later].instruction
        if other.opcode.endswith("-done") and run.instruction.name in other.operands:
            return later
    return at


def _sends(module: Module) -> list[int]:
    return [
        at
        for at, run in enumerate(module.runs)
        if run.instruction.opcode == "send" and "xla_megascale" in run.instruction.rest
    ]


def _between_slices(module: Module, at: int, mesh: Mapping[str, int]) -> Collective:
    run = module.runs[at]
    meeting = run.instruction.attribute(r'rendezvous="([^"]*)"')
    receive = next(
        r.instruction.name
        for r in module.runs
        if r.instruction.opcode == "recv" and f'rendezvous="{meeting}"' in r.instruction.rest
    )
    done = next(
        later
        for later, r in enumerate(module.runs)
        if r.instruction.opcode == "recv-done" and receive in r.instruction.operands
    )
    payload = run.instruction.arrays[0]
    overlap = _between(module, at, done)
    return Collective(
        kind=run.instruction.attribute(r'transfer_type="(\w+)"').lower().replace("_", "-"),
        axes=("slice",),
        group=mesh.get("slice", 1),
        dtypes=(payload.dtype,),
        bytes=payload.bytes,
        times=run.times,
        network="dcn",
        asynchronous=overlap > 0,
        overlap_cycles=overlap,
        place=run.instruction.op_name or meeting,
    )


def _between(module: Module, first: int, last: int) -> int:
    between = module.runs[first + 1 : last]
    return sum(run.cycles for run in between) // max(module.runs[first].times, 1)


def _mesh_groups(text: str) -> np.ndarray:
    axes = {n: int(size) for n, size in re.findall(r"'([^']+)'=(\d+)", text.partition("]")[0])}
    ids = re.search(r"device_ids=\(?(\[[^\s)]*(?:T\([\d,]+\))?)", text)
    named = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", text.rpartition("{")[2])
    split: collections.OrderedDict[tuple, int] = collections.OrderedDict()
    for name, size in axes.items():
        part = next(((int(b), int(s)) for n, b, s in named if n == name and b), None)
        if part:
            before, own = part
            split |= {(name, 0): before, (name, 1): own, (name, 2): size // before // own}
        else:
            split[name, 1] = size
    order = groups(ids.group(1), 0) if ids else np.arange(np.prod(list(split.values())))
    grid = order.reshape(list(split.values()))
    moving = [
        i
        for i, (name, part) in enumerate(split)
        if part == 1 and name in dict.fromkeys(n for n, _, _ in named)
    ]
    still = [i for i in range(grid.ndim) if i not in moving]
    members = int(np.prod([grid.shape[i] for i in moving]))
    return grid.transpose(still + moving).reshape(-1, members)


def _numbers(text: str | None) -> list[int]:
    return [int(n) for n in (text or "").split(",") if n]
