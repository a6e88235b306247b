"""Reads the text of a module that the TPU compiler has finished: what runs, how often, how long.

The compiler writes its own estimate (`estimated_cycles`) beside every instruction that runs on the
core, and nothing beside Pallas kernels, collectives and copies that run behind others. A loop's
body stands in the text once: each figure here is multiplied by the trip counts around it.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator

BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
    "s64": 64, "u64": 64, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "f8e4m3fn": 8, "f8e5m2": 8,
    "f4e2m1fn": 4, "token": 0, "c64": 64,
}  # fmt: skip
KERNEL = "tpu_custom_call"  # what Pallas (Mosaic) kernels call
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_START = re.compile(r"^  (ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of an instruction's type, with its layout on the chip."""

    dtype: str
    dims: tuple[int, ...]
    layout: str = ""  # e.g. "2,1,0:T(8,128)(2,1)S(1)"

    @property
    def in_hbm(self) -> bool:
        """False for arrays that the compiler placed in on-chip memory, `S(1)` and others."""
        return not re.search(r"S\([1-9]\d*\)", self.layout)

    @property
    def bytes(self) -> int:
        """Without padding."""
        return _size(self.dims) * BITS.get(self.dtype, 32) // 8

    @property
    def padded_bytes(self) -> int:
        """As it lies in memory: the minor dimensions are padded to the tile, often 8 × 128."""
        order, _, tiles = self.layout.partition(":")
        tile = re.match(r"T\(([\d,]+)\)", tiles)
        if not tile or not self.dims:
            return self.bytes
        dims = [self.dims[int(i)] for i in order.split(",")]  # minor dimension first
        sizes = [int(n) for n in tile.group(1).split(",")][::-1]
        for i, size in enumerate(sizes[: len(dims)]):
            dims[i] = -(-dims[i] // size) * size
        return _size(dims) * BITS.get(self.dtype, 32) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of HLO. `shape` is its type's text, `rest` everything behind its operands."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    arguments: str
    rest: str

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The result's arrays, those of a tuple flattened."""
        return arrays(self.shape)

    @property
    def cycles(self) -> int:
        """The compiler's estimate for one run; 0 where it has none."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        return int(found.group(1)) if found else 0

    @property
    def op_name(self) -> str:
        """Where in the program it came from: `jit(step)/jvp()/while/body/…/dot_general`."""
        return self.attribute(r'op_name="([^"]*)"')

    @property
    def target(self) -> str:
        """What a custom call calls."""
        return self.attribute(r'custom_call_target="([^"]*)"')

    @property
    def called(self) -> list[str]:
        """Computations that it runs: fusion, loop, branches, asynchronous computation."""
        branches = self.attribute(r"branch_computations=\{([^}]*)\}")
        if not branches and self.opcode == "conditional":
            branches = " ".join(re.findall(r"(?:true|false)_computation=(%?[\w.\-]+)", self.rest))
        return _CALLED.findall(self.rest) + re.findall(r"%?([\w.\-]+)", branches)

    def attribute(self, pattern: str) -> str:
        """The first group of a pattern behind the operands, or an empty string."""
        found = re.search(pattern, self.rest)
        return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Run:
    """An instruction in its place: `times` a step, inside `loops` (outermost first)."""

    instruction: Instruction
    computation: str
    times: int
    loops: tuple[str, ...]

    @property
    def cycles(self) -> int:
        """Of all its runs in a step."""
        return self.times * self.instruction.cycles


@dataclasses.dataclass(frozen=True)
class Module:
    """Computations by name, each a list of instructions in the order in which they run."""

    computations: dict[str, list[Instruction]]
    entry: str

    def __hash__(self) -> int:
        return id(self)

    @functools.cached_property
    def defined(self) -> dict[str, dict[str, Instruction]]:
        """Computation → instruction's name → instruction."""
        return {c: {i.name: i for i in body} for c, body in self.computations.items()}

    @functools.cached_property
    def users(self) -> dict[str, dict[str, list[Instruction]]]:
        """Computation → instruction's name → the instructions that take it as an operand."""
        found = {}
        for name, body in self.computations.items():
            found[name] = collections.defaultdict(list)
            for i in body:
                for operand in dict.fromkeys(i.operands):
                    found[name][operand].append(i)
        return found

    @functools.cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every instruction that a step runs, with its number of runs; fusions stay whole."""
        return tuple(self._walk(self.entry, 1, ()))

    @property
    def cycles(self) -> int:
        """The compiler's estimate of a step, kernels and collectives not included."""
        return sum(run.cycles for run in self.runs)

    @property
    def kernels(self) -> list[Run]:
        """Pallas kernels, which have no estimate."""
        return [run for run in self.runs if run.instruction.target == KERNEL]

    def trips(self, computation: str, loop: Instruction) -> int:
        """How often a loop's body runs; 1 if neither the compiler nor the condition says it."""
        known = loop.attribute(r'"known_trip_count":\{[^{}]*?"n":"(\d+)"')
        if known:
            return int(known)
        condition = loop.attribute(r"condition=%?([\w.\-]+)")
        body = self.computations[condition]
        compare = next((i for i in body if i.opcode == "compare"), None)
        if compare is None:
            return 1
        values = [self._constant(condition, name, computation, loop) for name in compare.operands]
        start, limit = values if compare.attribute(r"direction=(\w+)")[0] == "L" else values[::-1]
        if limit is None:
            return 1
        return max(limit - (start or 0) + (compare.attribute(r"direction=(\w+)")[1] == "E"), 0)

    def _constant(self, condition: str, name: str, outer: str, loop: Instruction) -> int | None:
        """A number that a loop's condition compares, at the loop's start."""
        while True:
            at = self.defined[condition].get(name)
            if at is None:
                return None
            if at.opcode == "constant" and re.fullmatch(r"-?\d+", at.arguments):
                return int(at.arguments)
            if at.opcode in ("copy", "bitcast", "convert") and at.operands:
                name = at.operands[0]
                continue
            if at.opcode == "get-tuple-element" and condition != outer:
                initial = self.defined[outer].get(loop.operands[0])
                if initial is None or initial.opcode != "tuple":
                    return None
                name = initial.operands[int(at.attribute(r"index=(\d+)"))]
                condition = outer
                continue
            return None

    def _walk(self, computation: str, times: int, loops: tuple[str, ...]) -> Iterator[Run]:
        for i in self.computations[computation]:
            yield Run(i, computation, times, loops)
            if i.opcode == "while":
                body = i.attribute(r"body=%?([\w.\-]+)")
                inner = (*loops, i.op_name or i.name)
                yield from self._walk(body, times * self.trips(computation, i), inner)
            elif i.opcode == "call":
                for called in i.called:
                    yield from self._walk(called, times, loops)
            elif i.opcode == "conditional":
                branches = [tuple(self._walk(c, times, loops)) for c in i.called]
                yield from max(branches, key=lambda runs: sum(run.cycles for run in runs))


def parse(text: str) -> Module:
    """The text of `compiled.as_text()` → a module."""
    computations: dict[str, list[Instruction]] = {}
    entry, body, pending = "", [], []

    def finish() -> None:
        if pending:
            body.append(_instruction("\n".join(pending)))
            pending.clear()

    for line in text.splitlines():
        if _START.match(line):
            finish()
            pending.append(line)
        elif line.startswith("}") and (len(line) == 1 or line.startswith("}, execution")):
            finish()
        elif not pending and (header := _COMPUTATION.match(line)):
            body = computations.setdefault(header.group(2), [])
            entry = header.group(2) if header.group(1) else entry
        elif pending:
            pending.append(line)  # attributes may span lines
    if not entry:
        raise ValueError("no ENTRY computation: not the text of a compiled module")
    return Module(computations, entry)


def arrays(shape: str) -> tuple[Array, ...]:
    """A type's text → its arrays."""
    return tuple(
        Array(dtype, tuple(int(n) for n in dims.split(",") if n), layout)
        for dtype, dims, layout in _ARRAY.findall(shape)
    )


def _instruction(text: str) -> Instruction:
    name = _START.match(text)
    shape, rest = _balanced(text[name.end() :])
    opcode, _, rest = rest.lstrip().partition("(")
    arguments, rest = _balanced("(" + rest)
    operands = tuple(_NAME.findall(arguments))
    return Instruction(name.group(2), shape, opcode, operands, arguments[1:-1], rest)


def _balanced(text: str) -> tuple[str, str]:
    """Split behind the first word, or behind the first closed parenthesis."""
    if not text.startswith("("):
        word, _, rest = text.partition(" ")
        return word, rest
    depth = 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if not depth:
            return text[: i + 1], text[i + 1 :]
    raise ValueError(f"unbalanced parentheses: {text[:200]}")


def _size(dims) -> int:
    return math.prod(dims)
