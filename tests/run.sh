#!/usr/bin/env bash
# All tests:   tests/run.sh [--slow] [--setup-only] [pytest arguments]
#   --slow        also the tests that take minutes each
#   --setup-only  make .venv and stop
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/launch/setup_venv.sh"

selection=(-m "not slow") setup_only=
while [ $# -gt 0 ]; do
  case $1 in
    --slow) selection=(-m "slow or not slow") ;;
    --setup-only) setup_only=1 ;;
    *) break ;;
  esac
  shift
done
make_venv "$root" torch,dev
[ -z "$setup_only" ] || exit 0

cd "$root"
ruff check .
ruff format --check .
export JAX_PLATFORMS=cpu
if [ "${selection[1]}" = "not slow" ]; then
  # Most programs run for a second: compiling them well takes longer. --slow compiles as users do.
  export XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true ${XLA_FLAGS:-}"
fi
# Two files at a time; a file's tests stay in one process, as they share what is costly to make.
exec python -m pytest --numprocesses 2 --dist loadfile "${selection[@]}" "$@"
