"""Whether memory that was freed is taken again, in a process that has done nothing else."""

import subprocess
import sys

SCRIPT = """
import resource
import numpy as np
from data_pipelines.memory import keep_freed_blocks

{call}
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.zeros(4 << 20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(1)
print(faults(20))
"""


def page_faults(call: str) -> int:
    script = SCRIPT.format(call=call)
    return int(subprocess.check_output([sys.executable, "-c", script], text=True))


def test_a_block_that_was_freed_costs_no_page_faults_again():
    assert page_faults("keep_freed_blocks()") < 100
