"""Layers of ViT-L as the TPU's compiler sees them: a slower one is caught here.

Forward and backward, 8 clips, bfloat16, v5e. The limits are what was compiled when they were
written, with a tenth for another version of the compiler.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from echofm_jax.planning import aot, hlo, topology

pytest.importorskip("libtpu", reason=aot.REASON)


def compiled(name: str, folder: Path) -> tuple[hlo.Module, float, float]:
    """A layer's module, the compiler's estimate in ms, and MiB of temporaries."""
    script = Path(__file__).parent / "compile_for_tpu.py"
    subprocess.run(
        [sys.executable, script, folder / "out.json", name],
        env=os.environ | aot.ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    found = json.loads((folder / "out.json").read_text())[name]
    module = hlo.parse(found["text"])
    estimate = 1e3 * module.cycles / topology.CHIPS["v5e"].clock_hz
    return module, estimate, found["temporaries"] / 2**20


def test_an_encoder_layer(tmp_path):
    """Attention in one kernel each way; no logits [8, 16, 128, 128] in memory."""
    module, estimate, temporaries = compiled("encoder_layer", tmp_path)
    assert len(module.kernels) == 2
    assert not any("[8,16,128,128]" in run.instruction.shape for run in module.runs)
    assert estimate < 1.1 * 0.495
    assert temporaries < 1  # all of it stays in on-chip memory


@pytest.mark.slow
def test_a_decoder_layer(tmp_path):
    """1,569 tokens: the layers that cost most a clip."""
    module, estimate, temporaries = compiled("decoder_layer", tmp_path)
    assert len(module.kernels) == 2
    assert not any("1569,1569" in run.instruction.shape for run in module.runs)
    assert estimate < 1.1 * 1.76
    assert temporaries < 1.1 * 63.7
