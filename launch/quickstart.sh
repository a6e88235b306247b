#!/usr/bin/env bash
# From echo files to PyTorch weights in one go:   launch/quickstart.sh [FOLDER_OF_ECHO_FILES]
#   without a folder, simulated studies are written and used
#   --setup-only    make .venv and stop
#   --output DIR    where everything goes (default runs/quickstart; must not exist)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/launch/setup_venv.sh"

output=runs/quickstart source='' setup_only=''
while [ $# -gt 0 ]; do
  case $1 in
    --setup-only) setup_only=1 ;;
    --output) output=${2:?--output needs a folder}; shift ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "quickstart: unknown option $1: see --help" >&2; exit 2 ;;
    *) source=$1 ;;
  esac
  shift
done
if [ -n "$source" ] && [ ! -d "$source" ]; then
  echo "quickstart: $source is not a folder: give a folder of echo files, or nothing" >&2
  exit 2
fi
if [ -e "$output" ]; then
  echo "quickstart: $output exists already: remove it, or choose another with --output" >&2
  exit 2
fi
[ -z "$source" ] || source=$(cd "$source" && pwd)
make_venv "$root" torch
[ -z "$setup_only" ] || exit 0

mkdir -p "$output"
output=$(cd "$output" && pwd)
cd "$root"
export PYTHONUNBUFFERED=1
step() { printf '\n==> %s\n' "$*"; }
steps=${QUICKSTART_STEPS:-240}

if [ -z "$source" ]; then
  step "1/7  Simulated echo studies (DICOM, AVI, MP4, npy)"
  source=$output/studies
  echofm phantom --output "$source" --rhythm sinus --views A4C A2C PLAX PSAX_MV
  # Nothing secret in a simulation: a fixed salt makes the same split every time.
  echo simulated-studies-hold-no-secrets >"$output/salt"
  export ECHOFM_SALT_FILE=$output/salt
else
  step "1/7  Your echo files: $source"
fi

step "2/7  Ingest: clean, de-identify, shard"
echofm ingest --source "$source" --data_dir "$output/data" --size 112

step "3/7  Pre-train a small EchoFM, and stop it half-way (kill -9)"
run=$output/run
train=(echofm train --workdir "$run")
"${train[@]}" --config=configs/smoke.py:plus --config.data.dir="$output/data" \
  --config.optim.steps="$steps" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true' EXIT
while kill -0 "$pid" 2>/dev/null; do
  done_steps=$(sed -n '$s/^{"step": \([0-9]*\).*/\1/p' "$run/metrics.jsonl" 2>/dev/null || true)
  [ "${done_steps:-0}" -lt $((steps / 2)) ] || break
  sleep 1
done
kill -9 "$pid" 2>/dev/null || true
wait "$pid" 2>/dev/null || true
trap - EXIT

step "4/7  The same command again: it resumes from its last checkpoint"
"${train[@]}"

step "5/7  Evaluate: held-out loss, phase metrics, figures"
echofm evaluate --workdir "$run"

step "6/7  Export to PyTorch; JAX and PyTorch must agree"
echofm export --workdir "$run" --output "$output/exported"

step "7/7  Load it as a PyTorch user does: three lines, no JAX"
(cd "$output" && python - <<'PYTHON'
import torch
from exported.modeling_echofm import EchoFM

model = EchoFM.from_pretrained("exported")
clips = torch.rand(2, 3, model.config.frames, model.config.size, model.config.size)
features = model.encode(clips)
for name, value in features._asdict().items():
    print(f"{name:7s} {list(value.shape)}")
PYTHON
)

cat <<TEXT

Everything is in $output
  data/                 de-identified shards (data-report.csv beside it lists every file: private)
  run/                  config, checkpoints, metrics.jsonl, TensorBoard events
  run/figures/          reconstruction, similarity maps, trajectory, attention, losses;
                        NAME-dark: the same for a dark page
  run/evaluation.json   every figure of the evaluation
  exported/             weights for PyTorch: model.safetensors, modeling_echofm.py, model card;
                        hf_echofm.py for transformers, echofm.pth for the official code
Next
  ingest your archive   echofm ingest --source ARCHIVE --data_dir DATA
  train for real        echofm train --config=configs/vit_b.py --workdir=W --config.data.dir=DATA
  try the paper's loss  --config=configs/vit_b.py:paper
  features of files     echofm embed --model=$output/exported --source=FILES --output=features.npz
  a head of your own    echofm finetune --model=$output/exported --task=view --source=$output/data \\
                            --workdir=W         (pip install -e '.[finetune]')
  watch a run           tensorboard --logdir W      (pip install tensorboard)
TEXT
