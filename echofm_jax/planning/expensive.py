"""Where a compiled step spends its cycles: its most expensive instructions."""

import re

from echofm_jax.planning.hlo import KERNEL, Module


def expensive(module: Module, rows: int = 30) -> list[dict]:
    """The instructions that cost most cycles a step, alike ones together, costliest first.

    Alike: same opcode and shape, from the same place in the program, in the same loop.
    """
    table: dict[tuple, dict] = {}
    for run in module.runs:
        i = run.instruction
        if not run.cycles and i.target != KERNEL:
            continue
        shape = re.sub(r"\{[^{}]*\}|/\*.*?\*/", "", i.shape)
        place = re.sub(r"closed_call/|checkpoint/|rematted_computation/", "", i.op_name)
        row = table.setdefault(
            (i.opcode, shape, place, run.loops),
            {"cycles": 0, "runs": 0, "opcode": i.opcode, "kind": i.attribute(r"kind=(\w+)"),
             "name": i.name, "shape": shape, "op_name": place, "loop": "/".join(run.loops)},
        )  # fmt: skip
        row["cycles"] += run.cycles
        row["runs"] += run.times
    return sorted(table.values(), key=lambda row: -row["cycles"])[:rows]
