"""Where a compiled step spends its cycles: by loop, and its most expensive instructions.

python -m echofm_jax.hlo_report STEP.txt
"""

import re
import sys
from pathlib import Path

from echofm_jax.hlo import KERNEL, Module, parse


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


def report(module: Module, gigahertz: float = 1.5, rows: int = 30) -> str:
    """Loops and the most expensive instructions, in milliseconds of a core at `gigahertz`."""
    ms = 1e-6 / gigahertz
    lines = [f"{module.cycles * ms:8.2f} ms in all, without kernels and collectives"]
    for loops, cycles in sorted(module.cycles_by_loop().items(), key=lambda item: -item[1]):
        lines.append(f"{cycles * ms:8.2f} ms  {' / '.join(loops) or 'outside loops'}")
    lines.append(f"{'ms':>8s} {'runs':>6s}  instruction")
    for row in expensive(module, rows):
        lines.append(
            f"{row['cycles'] * ms:8.2f} {row['runs']:6d}  {row['opcode']} {row['kind']} "
            f"{row['shape'][:90]} {row['op_name'][-90:]} ({row['name']})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(parse(Path(sys.argv[1]).read_text())))
