"""The compiler's final schedule of every instruction: how many cycles the core issues for it.

libtpu writes one file of VLIW bundles an instruction; a bundle is one cycle. Loops in it are
counted with their trips. What this leaves out are stalls: waiting for memory, and for the matrix
units when they are pushed faster than they multiply. So it is a lower bound, and for Pallas
kernels the only figure that the compiler gives.
"""

import re
from pathlib import Path

from echofm_jax.planning.hlo import Instruction, Module

# Only the last pass, or the files of a large step would take gigabytes.
FLAGS = "--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true \
--xla_jf_dump_llo_pass_label_regex=.*final_bundles.*"
_FILE = re.compile(r"\d+-(.+)-\d+-final_bundles\.txt")
_BUNDLE = re.compile(r"^\s*0x[0-9a-f]+\s+(LB:)?[A-Z: ]*(>*)\s*\{")
_NAMES = re.compile(r"%?[\w.\-]*\.\d+|scope|stack_frame_id=\d+")
_TRIPS = re.compile(r"totalorder \S+, (\d+) /\* loop exit test")


def read(folder: Path) -> dict[str, int]:
    """Instruction → cycles issued for one run, from a folder that `FLAGS` named."""
    cycles = {}
    for path in folder.iterdir():
        name = _FILE.fullmatch(path.name)
        if name and not name.group(1).startswith("<"):
            cycles[name.group(1)] = issued(path.read_text())
    return cycles


def spread(cycles: dict[str, int], module: Module) -> dict[str, int]:
    """Cycles by instruction, for its twins too: the compiler schedules alike ones once."""
    alike: dict[tuple, int] = {}
    for run in module.runs:
        if run.instruction.name in cycles:
            alike[_likeness(module, run.instruction)] = cycles[run.instruction.name]
    found = {}
    for run in module.runs:
        i = run.instruction
        known = cycles.get(i.name, alike.get(_likeness(module, i)))
        if known is not None:
            found[i.name] = known
    return found


def _likeness(module: Module, i: Instruction) -> tuple:
    """What the schedule depends on: the instruction, its fusion's body or its kernel, no names."""
    body = [
        (inner.opcode, inner.shape, re.sub(r"metadata=\{[^}]*\}", "", inner.rest))
        for name in (i.called if i.opcode == "fusion" else [])
        for inner in module.computations[name]
    ]
    window = i.attribute(r'"window_config":(\{.*?\})')
    kernel = i.attribute(r'"body":"([^"]*)"')
    return (i.opcode, i.shape, window, kernel, *((o, s, _NAMES.sub("", r)) for o, s, r in body))


def issued(bundles: str) -> int:
    """Cycles that one run of a schedule issues.

    A loop without a constant number of trips counts as one.
    """
    lines = [(m, line) for line in bundles.splitlines() if (m := _BUNDLE.match(line))]
    depths = [len(m.group(2)) for m, _ in lines]
    begins = [i for i, (m, _) in enumerate(lines) if m.group(1)]
    times = [1] * len(lines)
    for begin in begins:
        depth = depths[begin]
        limit = next((i for i in begins if i > begin and depths[i] <= depth), len(lines))
        # Single bundles within a loop may be marked as outside it: the last one inside ends it.
        body = range(begin, 1 + max(i for i in range(begin, limit) if depths[i] >= depth))
        exits = [_TRIPS.search(lines[i][1]) for i in body if depths[i] == depth]
        trips = next((int(found.group(1)) for found in reversed(exits) if found), 1)
        for i in body:
            times[i] *= trips
    return sum(times)
