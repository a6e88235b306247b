"""Which programs were compiled and which were found; in processes with a cache of their own."""

import os
import subprocess
import sys

PROGRAM = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from echofm_jax.compile_cache import keep_compiled, watch_cache
keep_compiled(Path(sys.argv[1]))
for factor in (2, 3):
    with watch_cache() as hits:
        jax.jit(lambda x: (x * factor) @ x).lower(jnp.ones((8, 8))).compile()
    print("hit" if hits else "miss")
jax.jit(lambda x: x * 5).lower(jnp.ones(3)).compile()  # nobody watches
print(jax.config.jax_compilation_cache_dir)
"""


def test_a_program_is_compiled_once(tmp_path):
    env = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
    del env["JAX_COMPILATION_CACHE_DIR"]

    def run(folder, **variables) -> list[str]:
        command = [sys.executable, "-W", "error", "-c", PROGRAM, str(folder)]
        result = subprocess.run(command, env=env | variables, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    cache = tmp_path / "cache"
    assert run(cache) == ["miss", "miss", str(cache)]
    assert list(cache.iterdir())
    assert run(cache) == ["hit", "hit", str(cache)]
    # The environment decides where, if it says so.
    assert run(tmp_path / "x", JAX_COMPILATION_CACHE_DIR=str(cache)) == ["hit", "hit", str(cache)]
