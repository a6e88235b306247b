"""`python -m echofm_jax COMMAND ...`, the same as `echofm COMMAND ...`."""

import sys

from echofm_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
