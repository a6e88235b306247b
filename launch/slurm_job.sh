#!/usr/bin/env bash
# The job that slurm.sh submits: the command on every task, and back into the queue unless the run
# is done or must not be repeated.
#   slurm_job.sh MAX_RESTARTS COMMAND...
set -uo pipefail
max_restarts=$1
shift
final=runs/$SLURM_JOB_NAME-$SLURM_JOB_ID.final
rm -f "$final"
# srun does not inherit this from sbatch.
[ -z "${SLURM_CPUS_PER_TASK-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# Cancelled or preempted: SLURM knows which, and queues a preempted job again by itself.
taken_away=''
trap 'taken_away=yes' TERM

# srun returns the highest status. One task's bug makes its peers stop with a higher one, so each
# task reports a final status by itself. No task is killed because another ended: it may be saving.
# A signal reaches the shell around the command as well, which must wait for it all the same.
# shellcheck disable=SC2016
srun --kill-on-bad-exit=0 --wait=300 bash -c '
  trap : TERM
  final=$1
  shift
  "$@"
  status=$?
  case $status in 1 | 2 | 130) echo $status >>"$final" ;; esac
  exit $status' bash "$final" "$@"
status=$?
[ ! -s "$final" ] || status=$(head -n 1 "$final")
rm -f "$final"

case $status in
  0 | 1 | 2 | 130) exit "$status" ;;
esac
[ -z "$taken_away" ] || exit "$status"
if ((${SLURM_RESTART_COUNT:-0} >= max_restarts)); then
  echo "slurm_job.sh: status $status, and not done after $max_restarts restarts" >&2
  exit "$status"
fi
echo "slurm_job.sh: status $status: back into the queue" >&2
scontrol requeue "$SLURM_JOB_ID" || exit "$status"
