"""The most memory that a training took, as far as the device tells."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch

from echofm_jax.host_memory import return_free_memory

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclasses.dataclass
class Peak:
    """Filled when the block of `peak_memory` ends."""

    bytes: int | None = None  # None: this system does not tell
    what: str = ""  # what was measured


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure a block: on a GPU all that tensors held, on a CPU what the process grew by.

    The second tells less: it counts threads, caches and what readers hold, and leaves out what was
    there before, the encoder among it.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        peak.what = "tensors on the GPU (torch.cuda.max_memory_allocated)"
        return
    peak.what = "growth of the process's resident memory"
    before = 0
    if told := RESET.exists():
        return_free_memory()  # else what is taken again would not count
        RESET.write_text("5")  # the kernel's record of the peak begins anew
        before = resident("VmRSS")
    yield peak
    if told:
        peak.bytes = max(0, resident("VmHWM") - before)


def resident(name: str) -> int:
    """Bytes that Linux tells of this process: VmRSS now, VmHWM at most."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
