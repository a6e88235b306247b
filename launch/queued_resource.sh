#!/usr/bin/env bash
# Trains on TPU slices from the queue until the run is done: asks for them, starts on all hosts,
# and asks again whenever they are taken away. In the end they are given back.
#   launch/queued_resource.sh --name=vitl --zone=us-west4-a --topology=v5e:16x16 --slices=2 --spot \
#     --config=configs/vit_l.py --workdir=gs://BUCKET/vitl --config.data.dir=gs://BUCKET/data
#   --topology=T           such as v5e:16x16, or an accelerator type such as v5litepod-256
#   --slices=N             of that topology (default 1)
#   --spot                 cheap, and taken away at any moment
#   --zone=Z --project=P   where
#   --runtime-version=V    of the machines' image (default: by topology)
#   --keep                 do not give them back
#   --shared-workdir       every host has the folder of --workdir, and it outlives them
#   --poll=SECONDS         between questions (default 30)
# The same command again takes up what is there: a request in the queue, or a run that is alive.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/launch/common.sh"
. "$root/launch/topologies.sh"
. "$root/launch/hosts.sh"
options+=([slices]=1)
switches+='spot keep shared-workdir '

parse_arguments "$@"
need_number slices 1 256
choose_slices
slices=$((10#${options[slices]}))
check_training "$((slices * hosts_per_slice))" yes
make_environment
name=${options[name]}
dry_state=''
request=(--accelerator-type="$accelerator_type" --runtime-version="$runtime_version")
[ -z "${options[spot]-}" ] || request+=(--spot)
if ((slices == 1)); then
  nodes=("$name")
  request+=(--node-id="$name")
else
  nodes=()
  for ((i = 0; i < slices; i++)); do nodes+=("$name-$i"); done
  request+=(--node-count="$slices" --node-prefix="$name")
fi

# Prints what the queue says, or LOST for slices that it still calls active.
state() {
  local now vms
  now=$(answer "$dry_state" gcloud compute tpus queued-resources list "${where[@]}" \
    --filter="name ~ /$name\$" --format='value(state.state)') || return
  if [ "$now" = ACTIVE ]; then
    vms=$(answer READY gcloud compute tpus tpu-vm list "${where[@]}" \
      --filter="name ~ /($(IFS='|'; printf '%s' "${nodes[*]}"))\$" --format='value(state)') || return
    [[ $vms != *PREEMPTED* && $vms != *TERMINATED* && $vms != *STOPPED* ]] || now=LOST
  fi
  echo "$now"
}

slices_gone() {
  local now
  now=$(state) && [ "$now" != ACTIVE ]
}

create_slices() {
  run gcloud compute tpus queued-resources create "$name" "${where[@]}" "${request[@]}" \
    "${extra[@]}" || { once_more "cannot ask for $name"; return; }
  dry_state=ACTIVE
}

delete_slices() {
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

ready_slices() {
  local now before=''
  while :; do
    # Nobody may be there to answer: an outage of an hour must not end a run of a week.
    now=$(state) || now=UNKNOWN
    [ "$now" = "$before" ] || say "slices: ${now:-none yet}"
    before=$now
    case $now in
      ACTIVE) return ;;
      '') create_slices || return ;;
      LOST | SUSPENDED) delete_slices || once_more "cannot delete $name" || return ;;
      FAILED)
        say "the request failed: gcloud compute tpus queued-resources describe $name ${where[*]}"
        return 1
        ;;
      *) pause ;;
    esac
  done
}

status=0
run_until_done || status=$?
[ -n "${options[keep]-}" ] || delete_slices || say "cannot delete $name: it may still cost money"
[ -n "$dry_run" ] || say "exit status $status"
exit "$status"
