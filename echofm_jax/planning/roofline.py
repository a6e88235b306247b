"""How long a compiled step takes, as a range, from what the compiler says of every instruction.

Optimistic: each instruction takes as long as its slowest engine – bundles issued, matrix units,
memory – with perfect overlap between the three. Pessimistic: as long as the compiler's own
estimate, which lets memory-bound bfloat16 work take two to three times its bandwidth bound.
"""

import dataclasses

from echofm_jax.planning.collectives import Collective
from echofm_jax.planning.hlo import KERNEL, Module, Run
from echofm_jax.planning.topology import Topology
from echofm_jax.planning.traffic import FREE, hbm_bytes, matrix_flops

# Copies between HBM and on-chip memory that run behind other work.
BEHIND = ("copy-start", "copy-done", "slice-start", "slice-done", "async-start", "async-done")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Seconds, from optimistic to pessimistic."""

    low: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(low=self.low + other.low, high=self.high + other.high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one step on one chip; bounds are what each resource needs by itself."""

    compute_bound: float  # the FLOPs that the config needs, at peak
    hbm_bound: float  # bytes that instructions read and write in HBM, as they lie there
    ici_bound: float  # bytes sent within the slice, all links busy
    dcn_bound: float  # bytes sent between slices
    core: Range  # instructions
    kernels: Range  # Pallas
    exposed: Range  # collectives that nothing runs beside
    hbm_bytes: int

    @property
    def step(self) -> Range:
        """The whole step."""
        total = self.core + self.kernels + self.exposed
        floor = max(self.compute_bound, self.hbm_bound, self.ici_bound, self.dcn_bound)
        return Range(low=max(total.low, floor), high=max(total.high, floor))

    @property
    def bound_by(self) -> str:
        """The resource with the highest bound."""
        names = ("compute", "hbm", "ici", "dcn")
        return max(names, key=lambda name: getattr(self, f"{name}_bound"))


def times(
    module: Module,
    issued: dict[str, int],
    found: list[Collective],
    topology: Topology,
    chip_flops: float,
) -> Times:
    """Bounds and expected times of a step.

    Args:
      module: the compiled step.
      issued: cycles issued by instruction, see `schedule.read`.
      found: its collectives.
      topology: what it was compiled for.
      chip_flops: FLOPs that one chip's part of the batch needs, recomputation not counted.
    """
    chip = topology.chip
    core, kernels = Range(low=0, high=0), Range(low=0, high=0)
    moved = 0
    for run in module.runs:
        traffic = run.times * hbm_bytes(module, run)
        moved += traffic
        spent = instruction_times(module, run, issued, topology)
        if run.instruction.target == KERNEL:
            kernels += spent
        else:
            core += spent
    return Times(
        compute_bound=chip_flops / chip.peak_flops,
        hbm_bound=moved / chip.hbm_bandwidth,
        ici_bound=sum(c.times * wire_time(c, topology).low for c in found if c.network == "ici"),
        dcn_bound=sum(c.times * wire_time(c, topology).low for c in found if c.network == "dcn"),
        core=core,
        kernels=kernels,
        exposed=sum((exposed(c, topology) for c in found), Range(low=0, high=0)),
        hbm_bytes=moved,
    )


def instruction_times(
    module: Module, run: Run, issued: dict[str, int], topology: Topology
) -> Range:
    """Seconds a step of one instruction, all its runs."""
    i, chip = run.instruction, topology.chip
    if i.opcode in FREE or i.opcode in BEHIND:
        return Range(low=0, high=0)
    memory = hbm_bytes(module, run) / chip.hbm_bandwidth
    schedule = issued.get(i.name, 0) / chip.clock_hz
    if i.target == KERNEL:  # how well its copies overlap its arithmetic is not known
        low, high = max(schedule, memory), schedule + memory
    elif not i.cycles:
        return Range(low=0, high=0)  # collectives are counted apart
    else:
        matrix = matrix_flops(module, run.computation, i) / chip.peak_flops
        low = max(schedule, matrix, memory)
        high = max(i.cycles / chip.clock_hz, schedule, matrix)
        low = min(low, high)
    return Range(low=run.times * low, high=run.times * high)


def wire_time(c: Collective, topology: Topology) -> Range:
    """Seconds of one run of a collective, if nothing else uses its network.

    Within a slice: all of a chip's links at their full rate, at best; the two links of one
    dimension of the torus, at worst (one, if only two chips take part). Between slices: the whole
    of a chip's share, or half of it.
    """
    chip = topology.chip
    if c.network == "dcn":
        best = c.sent / chip.dcn_bandwidth
        return Range(low=best, high=2 * best)
    links = min(chip.ici_links, 2 * sum(int(side) > 1 for side in topology.shape.split("x")))
    if all(int(side) <= 2 for side in topology.shape.split("x")):
        links //= 2  # two chips along a side share one link
    links = max(links, 1)
    best = c.sent / (links * chip.ici_link_bandwidth)
    worst = c.sent / (min(links, 2, max(c.group - 1, 1)) * chip.ici_link_bandwidth)
    return Range(low=best, high=worst)


def exposed(c: Collective, topology: Topology) -> Range:
    """Seconds a step for which a collective keeps the core waiting."""
    wire = wire_time(c, topology)
    hidden = c.overlap_cycles / topology.chip.clock_hz if c.asynchronous else 0.0
    return Range(low=c.times * max(wire.low - hidden, 0.0), high=c.times * wire.high)
