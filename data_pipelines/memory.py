"""Freed memory stays with the process."""

import numpy as np

MOST = 31 << 20  # bytes; glibc's own limit is 32 MiB


def keep_freed_blocks() -> None:
    """Let blocks of up to `MOST` bytes be taken from memory that was freed before.

    glibc maps and unmaps every block above a threshold, 128 KiB at first, and the page faults of a
    fresh block cost several times what is done in it: six times the reading of a record of 1 MB,
    twelve times the reduction of a clip's frames. Freeing one larger block raises the threshold.
    """
    np.empty(MOST, np.uint8)
