"""Memory of a block: what it took at most, not what was there before or after."""

import numpy as np
import pytest
import torch

from echofm_jax.pytorch import peak_memory
from echofm_jax.pytorch.peak_memory import Peak

CPU = torch.device("cpu")


def test_the_peak_of_a_block_on_a_cpu():
    before = np.ones(80 << 20, np.uint8)
    with peak_memory.peak_memory(CPU) as large:
        taken = np.ones(60 << 20, np.uint8)
        del taken
    with peak_memory.peak_memory(CPU) as small:
        pass
    assert before.any() and 55 << 20 < large.bytes < 75 << 20 and small.bytes < 5 << 20
    assert large.what == "growth of the process's resident memory"


def test_what_a_system_does_not_tell_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "RESET", tmp_path / "none")
    with peak_memory.peak_memory(CPU) as peak:
        pass
    assert peak == Peak(None, "growth of the process's resident memory")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu_are_counted():
    with peak_memory.peak_memory(torch.device("cuda")) as peak:
        torch.ones(50 << 20, dtype=torch.uint8, device="cuda")
    assert peak.bytes >= 50 << 20 and "max_memory_allocated" in peak.what
