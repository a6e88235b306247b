"""TPU chips and the slices that can be asked for, by name: `v5e:16x16`. No JAX in here.

Sources: the system-architecture pages of Cloud TPU v5e, v6e and v5p (cloud.google.com/tpu/docs,
read in 2026) for everything but what a comment names. Decimal units, as the data sheets have them.
"""

import dataclasses
import difflib
import math
import re

from echofm_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip, which is one JAX device in all of these generations."""

    generation: str
    device_kind: str  # what `jax.Device.device_kind` says
    peak_flops: float  # bfloat16, a second
    clock_hz: float  # peak ÷ FLOPs of a cycle; the compiler's cycles are counted in it
    hbm_bytes: int  # what a program may use; from the compiler's own out-of-memory message
    hbm_bandwidth: float  # bytes a second
    ici_links: int  # to neighbours, two for each dimension of the torus
    ici_link_bandwidth: float  # bytes a second, one link, one direction
    dcn_bandwidth: float  # bytes a second and chip, one direction, between slices
    chips_per_host: int  # of the machine type for slices of several hosts
    host_cores: int  # virtual CPUs of that machine type
    most_host_cores: int  # of the largest machine type
    shapes: tuple[str, ...]  # slices on offer

    @property
    def cycle_flops(self) -> float:
        """FLOPs of one cycle with every matrix unit busy."""
        return self.peak_flops / self.clock_hz


GIB = 2**30
TORUS_2D = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
TORUS_3D = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16",
            "8x16x16", "16x16x16", "16x16x24")  # fmt: skip

CHIPS = {
    chip.generation: chip
    for chip in (
        Chip(
            generation="v5e",
            device_kind="TPU v5 lite",
            peak_flops=197e12,
            clock_hz=197e12 / (4 * 128 * 128 * 2),  # 4 matrix units of 128 × 128: 1.503 GHz
            hbm_bytes=int(15.75 * GIB),
            hbm_bandwidth=819e9,
            ici_links=4,
            ici_link_bandwidth=400e9 / 4 / 2,  # 400 GB/s a chip, both directions together
            dcn_bandwidth=6.4e12 / 8 / 256,  # 6.4 Tbit/s a pod of 256
            chips_per_host=4,
            host_cores=112,  # ct5lp-hightpu-4t
            most_host_cores=224,  # ct5lp-hightpu-8t
            shapes=TORUS_2D,
        ),
        Chip(
            generation="v6e",
            device_kind="TPU v6 lite",
            peak_flops=918e12,
            # 262,144 multiply-adds a cycle (1.751 GHz) is what the compiler's cycles for a large
            # matrix product approach; the data sheet's two units of 256 × 256 are half of that.
            clock_hz=918e12 / (4 * 256 * 256 * 2),
            hbm_bytes=int(31.24 * GIB),
            hbm_bandwidth=1638e9,
            ici_links=4,
            ici_link_bandwidth=800e9 / 4 / 2,
            dcn_bandwidth=25.6e12 / 8 / 256,
            chips_per_host=4,
            host_cores=180,  # ct6e-standard-4t
            most_host_cores=180,  # ct6e-standard-8t
            shapes=TORUS_2D,
        ),
        Chip(
            generation="v5p",
            device_kind="TPU v5",
            peak_flops=459e12,
            clock_hz=459e12 / (8 * 128 * 128 * 2),  # two cores of 4 matrix units: 1.751 GHz
            hbm_bytes=int(95.73 * GIB),
            hbm_bandwidth=2765e9,
            ici_links=6,
            ici_link_bandwidth=1200e9 / 6 / 2,
            dcn_bandwidth=50e9 / 8,  # 50 Gbit/s a chip
            chips_per_host=4,
            host_cores=208,  # ct5p-hightpu-4t
            most_host_cores=208,
            shapes=TORUS_3D,
        ),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """Slices of one shape."""

    chip: Chip
    shape: str
    slices: int = 1

    @property
    def name(self) -> str:
        """As libtpu takes it, one slice: `v5e:16x16`."""
        return f"{self.chip.generation}:{self.shape}"

    @property
    def slice_chips(self) -> int:
        """Chips of one slice."""
        return math.prod(int(side) for side in self.shape.split("x"))

    @property
    def chips(self) -> int:
        """Chips of all slices."""
        return self.slices * self.slice_chips

    @property
    def host_chips(self) -> int:
        """Chips of one machine; a slice of 8 in a flat torus is one machine of 8."""
        one_machine = self.shape == "2x4" and self.chip.ici_links == 4
        return 8 if one_machine else min(self.slice_chips, self.chip.chips_per_host)

    @property
    def hosts(self) -> int:
        """Machines of all slices."""
        return self.chips // self.host_chips

    @property
    def host_cores(self) -> int:
        """Virtual CPUs of one machine."""
        share = self.chip.host_cores * self.host_chips // self.chip.chips_per_host
        return min(share, self.chip.most_host_cores)

    def __str__(self) -> str:
        return self.name if self.slices == 1 else f"{self.slices} × {self.name}"


def parse(name: str, slices: int = 1) -> Topology:
    """`v5e:16x16` → a topology.

    Raises:
      InputError: there is no such generation or shape; the message lists what there is.
    """
    generation, _, shape = name.partition(":")
    if generation not in CHIPS:
        raise InputError(
            f"unknown TPU topology '{name}': give GENERATION:SHAPE, for example v5e:16x16; "
            f"generations: {', '.join(CHIPS)}"
        )
    chip = CHIPS[generation]
    if shape not in chip.shapes and not of_cubes(shape, chip):
        near = difflib.get_close_matches(shape, chip.shapes, n=1)
        hint = f"did you mean {generation}:{near[0]}? " if near else ""
        more = " and other ascending multiples of 4" if chip.shapes is TORUS_3D else ""
        raise InputError(
            f"unknown TPU topology '{name}': {hint}{generation} comes as "
            f"{', '.join(chip.shapes)}{more}"
        )
    if slices < 1:
        raise InputError(f"--slices={slices} must be at least 1")
    return Topology(chip=chip, shape=shape, slices=slices)


def of_cubes(shape: str, chip: Chip) -> bool:
    """Whether a slice is built of 4x4x4 cubes, which come in any number up to the largest one."""
    if chip.shapes is not TORUS_3D or not re.fullmatch(r"\d+x\d+x\d+", shape):
        return False
    sides = [int(side) for side in shape.split("x")]
    most = math.prod(int(side) for side in chip.shapes[-1].split("x"))
    whole = all(side and side % 4 == 0 for side in sides)
    return whole and sides == sorted(sides) and math.prod(sides) <= most
