# Sourced by quickstart.sh and tests/run.sh: makes .venv if it is missing, and activates it.
# A half-made one (an interrupted install) is recognised by its missing mark and made again.
# PYTHON chooses the interpreter; CONSTRAINTS=/dev/null lifts the pinned PyTorch.

make_venv() {
  local root=$1 extras=$2
  local venv=${VENV:-$root/.venv} mark
  mark=$venv/.echofm-$(cat "$root/setup.py" "$root/constraints.txt" | cksum | cut -d' ' -f1)-$extras
  if [ ! -e "$mark" ]; then
    local python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "$python is older than Python 3.11: install a newer one and set PYTHON=python3.11" >&2
      return 2
    fi
    echo "Setting up $venv (once; downloads JAX and PyTorch)" >&2
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || return 2
    local pip=("$venv/bin/python" -W ignore -m pip install --quiet
      --constraint "${CONSTRAINTS:-$root/constraints.txt}")
    # First PyTorch alone: with it in place no other package pulls a build of its own choice.
    PYTHONWARNINGS=ignore "${pip[@]}" torch || return 2
    PYTHONWARNINGS=ignore "${pip[@]}" --editable "$root[$extras]" || return 2
    touch "$mark"
  fi
  # shellcheck disable=SC1091
  . "$venv/bin/activate"
}
