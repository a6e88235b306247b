#!/usr/bin/env bash
# Runs the cells of a sweep as an array of SLURM jobs, each on one node, each back in the queue until
# its cell is trained and evaluated. `echofm sweep FILE --workdir DIR --launch slurm` writes this line.
#   launch/slurm_array.sh --name=masking --cells=0-8%4 --gpus-per-node=1 --extra=--partition=gpu \
#     --sweep=configs/sweeps/masking.py --workdir=runs/masking --shared-workdir --config.data.dir=data/echo
#   --cells=LIST           which cells, as sbatch --array has it: 0,3,5-7%2 runs two at a time
#   --sweep=FILE.py        the sweep file, instead of --config
#   --gpus-per-node=N      for each cell (default 1)
#   --grace-period=S       seconds from the signal to stop until the time limit (default 300)
#   --shared-workdir       every node has the folder of --workdir
# The logs are runs/NAME-JOB_CELL.log.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/launch/common.sh"
options+=([cells]='' [sweep]='' [gpus-per-node]=1 [grace-period]=300)
options[port]=''
unset 'options[libtpu-flags]'
switches+='shared-workdir '

parse_arguments "$@"
need sweep cells
[ -z "$config" ] || refuse "--config is in the sweep file: give --sweep=FILE.py alone"
[[ ${options[cells]} =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*(%[1-9][0-9]*)?$ ]] ||
  refuse "--cells=${options[cells]} is no list such as 0,3,5-7%2"
need_number gpus-per-node 1 64
need_number grace-period 1 65535
config=${options[sweep]}
check_training 2 '' # cells run on several nodes
make_environment
# Under SLURM JAX gives a process the one GPU of its local number unless it is told otherwise.
environment+=("JAX_LOCAL_DEVICE_IDS=$(seq --separator=, 0 $((10#${options[gpus-per-node]} - 1)))")

run mkdir -p "$root/runs"
# shellcheck disable=SC2016
run sbatch --job-name="${options[name]}" --chdir="$root" --output=runs/%x-%A_%a.log \
  --open-mode=append --array="${options[cells]}" --nodes=1 \
  --gpus-per-node="${options[gpus-per-node]}" --ntasks-per-node=1 \
  --requeue --signal="TERM@${options[grace-period]}" "${extra[@]}" \
  "$root/launch/slurm_job.sh" "${options[max-restarts]}" \
  env "${environment[@]}" bash -c 'exec "$@" --cell="$SLURM_ARRAY_TASK_ID"' bash \
  "$root/.venv/bin/echofm" sweep "${options[sweep]}" "${training[@]}"
