"""One decoder layer of ViT-L as the TPU's compiler sees it: a slower one is caught here.

Forward and backward, 8 clips of 1,569 tokens, bfloat16, v5e. The limits are what was compiled when
they were written, with a tenth for another version of the compiler.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from echofm_jax.planning import aot, hlo, schedule, topology

MEBI = 2**20


@pytest.fixture(scope="module")
def layer(tmp_path_factory) -> tuple[hlo.Module, dict[str, int], int]:
    """The compiled layer, cycles issued by instruction, and bytes of temporaries."""
    pytest.importorskip("libtpu", reason=aot.REASON)
    folder = tmp_path_factory.mktemp("layer")
    (folder / "dump").mkdir()
    flags = schedule.FLAGS.format(folder=folder / "dump")
    script = Path(__file__).parent / "compile_for_tpu.py"
    subprocess.run(
        [sys.executable, script, folder / "out.json", "decoder_layer"],
        env=os.environ | aot.ENVIRONMENT | {"LIBTPU_INIT_ARGS": flags},
        check=True,
        capture_output=True,
    )
    found = json.loads((folder / "out.json").read_text())["decoder_layer"]
    module = hlo.parse(found["text"])
    issued = schedule.spread(schedule.read(folder / "dump"), module)
    return module, issued, found["temporaries"]


def milliseconds(cycles: int) -> float:
    return 1e3 * cycles / topology.CHIPS["v5e"].clock_hz


def test_cycles_of_a_layer(layer):
    module, _, _ = layer
    assert milliseconds(module.cycles) < 1


def test_cycles_of_its_attention(layer):
    """Two kernels, one each way; no logits [8, 16, 1569, 1569] in memory."""
    module, issued, _ = layer
    kernels = [issued[run.instruction.name] for run in module.kernels]
    assert len(kernels) == 2
    assert milliseconds(sum(kernels)) < 1
    assert not any("1569,1569" in run.instruction.shape for run in module.runs)


def test_memory_of_a_layer(layer):
    _, _, temporaries = layer
    assert temporaries < 1 * MEBI
