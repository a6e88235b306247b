#!/usr/bin/env bash
# Trains on a GKE cluster made with xpk (1.16): creates one workload.
#   launch/xpk.sh --name=vitl --cluster=pod --zone=us-west4-a --image=REGISTRY/echofm:tpu \
#     --topology=v5e:16x16 --slices=2 \
#     --config=configs/vit_l.py --workdir=gs://BUCKET/vitl --config.data.dir=gs://BUCKET/data
#   --cluster=C            of xpk
#   --image=IMAGE          built from launch/Dockerfile
#   --topology=T           such as v5e:16x16, or an accelerator type such as v5litepod-256
#   --slices=N             of that topology (default 1)
#   --zone=Z --project=P   where
#   --grace-period=S       seconds from the signal to stop until the kill (default 300)
#   --shared-workdir       --workdir is on a volume (--extra=--storage=…), not in a bucket
# xpk always restarts on 130 as well; nobody presses Ctrl-C in a pod.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/launch/common.sh"
. "$root/launch/topologies.sh"
options+=([cluster]='' [image]='' [topology]='' [slices]=1 [zone]='' [project]='' [grace-period]=300)
switches+='shared-workdir '

parse_arguments "$@"
need cluster image topology zone
need_number slices 1 256
need_number grace-period 1 86400
choose_topology "${options[topology]}"
check_training "$((10#${options[slices]} * hosts_per_slice))" yes
make_environment

workload=(xpk workload create --workload="${options[name]}" --cluster="${options[cluster]}"
  --zone="${options[zone]}")
[ -z "${options[project]}" ] || workload+=(--project="${options[project]}")
# To its own list, 42 and 127-255, xpk adds these: all but 0, 1 and 2.
workload+=(--tpu-type="$accelerator_type" --num-slices="${options[slices]}"
  --docker-image="${options[image]}" --max-restarts="${options[max-restarts]}"
  --restart-on-exit-codes=3-126 --termination-grace-period-seconds="${options[grace-period]}")
for variable in "${environment[@]}"; do workload+=(--env="$variable"); done
# exec: xpk sends its signal to the shell around the command. Kubernetes reads $$ as $.
command=(echofm train "${training[@]}")
((${#buckets[@]} == 0)) || command=(launch/mount_buckets.sh "${buckets[@]}" -- "${command[@]}")
line="exec $(quoted "${command[@]}")"
workload+=(--command="${line//\$/\$\$}")
run "${workload[@]}" "${extra[@]}"
