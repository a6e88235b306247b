#!/usr/bin/env bash
# Trains on GPU nodes of a SLURM cluster: submits one job, which queues itself again until the run
# is done. Wants this checkout and its .venv (pip install -e '.[cuda12]') on a shared file system.
#   launch/slurm.sh --name=vitl --nodes=4 --gpus-per-node=8 --extra=--partition=gpu --extra=--time=24:00:00 \
#     --config=configs/vit_l.py --workdir=runs/vitl --shared-workdir --config.data.dir=data/echo
#   --nodes=N              (default 1)
#   --gpus-per-node=N      (default 8)
#   --process-per=node     one process a node instead of one a GPU
#   --grace-period=S       seconds from the signal to stop until the time limit (default 300)
#   --shared-workdir       every node has the folder of --workdir (gs:// addresses: every node has
#                          the bucket mounted, see mount_buckets.sh)
# The log is runs/NAME-JOB.log.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/launch/common.sh"
options+=([nodes]=1 [gpus-per-node]=8 [process-per]=gpu [grace-period]=300)
# JAX takes the port from the job's number, so that two jobs on one node do not meet.
options[port]=''
unset 'options[libtpu-flags]'
switches+='shared-workdir '

parse_arguments "$@"
need_number nodes 1 4096
need_number gpus-per-node 1 64
need_number grace-period 1 65535
check_training "$((10#${options[nodes]}))" ''
make_environment
gpus=$((10#${options[gpus-per-node]}))
case ${options[process-per]} in
  gpu) processes=$gpus ;;
  node)
    processes=1
    # Under SLURM JAX gives a process the one GPU of its local number unless it is told otherwise.
    environment+=("JAX_LOCAL_DEVICE_IDS=$(seq --separator=, 0 $((gpus - 1)))")
    ;;
  *) refuse "--process-per=${options[process-per]} is neither gpu nor node" ;;
esac

run mkdir -p "$root/runs"
run sbatch --job-name="${options[name]}" --chdir="$root" --output=runs/%x-%j.log --open-mode=append \
  --nodes="${options[nodes]}" --gpus-per-node="$gpus" --ntasks-per-node="$processes" \
  --requeue --dependency=singleton --signal="TERM@${options[grace-period]}" "${extra[@]}" \
  "$root/launch/slurm_job.sh" "${options[max-restarts]}" \
  env "${environment[@]}" "$root/.venv/bin/echofm" train "${training[@]}"
