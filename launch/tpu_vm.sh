#!/usr/bin/env bash
# Trains on one TPU VM slice, all of its hosts: creates it where there is none, copies the code,
# installs, runs, shows the first host's log. The same command again follows a run that is alive.
#   launch/tpu_vm.sh --name=vitl --zone=us-west4-a --topology=v5e:4x4 \
#     --config=configs/vit_l.py --workdir=gs://BUCKET/vitl --config.data.dir=gs://BUCKET/data
#   --topology=T           such as v5e:16x16, or an accelerator type such as v5litepod-256
#   --zone=Z --project=P   where
#   --runtime-version=V    of the machine's image (default: by topology)
#   --shared-workdir       every host has the folder of --workdir
#   --poll=SECONDS         between questions (default 30)
# The slice is left as it is. Spot slices and several of them: queued_resource.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/launch/common.sh"
. "$root/launch/topologies.sh"
. "$root/launch/hosts.sh"
switches+='shared-workdir '

parse_arguments "$@"
choose_slices
check_training "$hosts_per_slice" ''
make_environment
name=${options[name]}
nodes=("$name")
dry_state=''

state() {
  answer "$dry_state" gcloud compute tpus tpu-vm list "${where[@]}" \
    --filter="name ~ /$name\$" --format='value(state)'
}

slices_gone() {
  local now
  now=$(state) && [[ $now != CREATING && $now != READY && $now != RE* ]]
}

ready_slices() {
  local now
  while :; do
    now=$(state) || return
    case $now in
      READY) return ;;
      '')
        run gcloud compute tpus tpu-vm create "$name" "${where[@]}" \
          --accelerator-type="$accelerator_type" --version="$runtime_version" "${extra[@]}" ||
          return
        dry_state=READY
        ;;
      PREEMPTED | TERMINATED | STOPPED | DELETING)
        say "$name is $now: delete it, or use queued_resource.sh, which asks again by itself"
        return 75
        ;;
      *) pause ;;
    esac
  done
}

status=0
run_until_done || status=$?
[ -n "$dry_run" ] ||
  say "exit status $status. $name is still there: gcloud compute tpus tpu-vm delete $name ${where[*]}"
exit "$status"
