"""The host's own memory, which on a CPU is the device's too."""

import ctypes
import sys


def return_free_memory() -> None:
    """Give freed memory back to the operating system (glibc; elsewhere nothing happens).

    Compiling the `vit_s` step leaves 600 MB that nobody uses and glibc keeps: without this they
    stay beside the step's own memory for the whole run.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
