"""`python -m echofm_jax.tied PARENT LOCK COMMAND...`: becomes the command, tied to its parent.

When the parent is gone, killed with -9 say, the command is told to stop. It begins once nobody
holds the lock any more, and holds it to its end, however it ends: a sweep that is started again
never has two processes in one folder, though the first may still be saving.
"""

import ctypes
import fcntl
import os
import signal
import sys

from echofm_jax.errors import TryAgain

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: str, lock: str, *command: str) -> None:
    """Replace this process by the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it was gone before we asked to be told
        sys.exit(TryAgain.status)
    held = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
    os.set_inheritable(held, True)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
