#!/usr/bin/env bash
# Trains on a GKE cluster that has the JobSet controller (0.7 or newer): renders one JobSet, a Job a
# slice, and applies it.
#   launch/jobset.sh --name=vitl --image=REGISTRY/echofm:tpu --topology=v5e:16x16 --slices=2 --spot \
#     --config=configs/vit_l.py --workdir=gs://BUCKET/vitl --config.data.dir=gs://BUCKET/data
#   --image=IMAGE          built from launch/Dockerfile
#   --topology=T           such as v5e:16x16, or an accelerator type such as v5litepod-256
#   --slices=N             of that topology (default 1)
#   --spot                 on spot nodes
#   --grace-period=S       seconds from the signal to stop until the kill (default 300)
#   --shared-memory=SIZE   most that /dev/shm may take of the pod's memory (default 16Gi)
#   --claim=NAME:/PATH     mounts a volume claim; a --workdir below /PATH is shared
# A dry run prints the manifest inside the kubectl command.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/launch/common.sh"
. "$root/launch/topologies.sh"
options+=([image]='' [topology]='' [slices]=1 [grace-period]=300 [shared-memory]=16Gi [claim]='')
switches+='spot '
shared_by='mount a volume there with --claim'

parse_arguments "$@"
need image topology
need_number slices 1 256
need_number grace-period 1 86400
[[ ${options[shared-memory]} =~ ^[1-9][0-9]*[KMGT]i$ ]] ||
  refuse "--shared-memory=${options[shared-memory]} is not a size such as 16Gi"
claim=${options[claim]%%:*} mount=${options[claim]#*:}
if [ -n "$claim" ]; then
  [[ ${options[claim]} =~ ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?:/[A-Za-z0-9_./-]+$ ]] ||
    refuse "--claim=${options[claim]} is not NAME:/PATH"
  [[ $workdir/ != "${mount%/}"/* ]] || options[shared-workdir]=yes
fi
choose_topology "${options[topology]}"
check_training "$((10#${options[slices]} * hosts_per_slice))" yes
make_environment
command=(echofm train "${training[@]}")
((${#buckets[@]} == 0)) || command=(launch/mount_buckets.sh "${buckets[@]}" -- "${command[@]}")

# A string of YAML. Kubernetes itself replaces $(NAME) in commands and values, and reads $$ as $.
yaml() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "${text//\$/\$\$}"
}

list() { # INDENT WORD...
  local word
  for word in "${@:2}"; do printf '%*s- %s\n' "$1" '' "$(yaml "$word")"; done
}

variables() {
  local variable
  for variable in "${environment[@]}"; do
    printf '%20s- name: %s\n%22svalue: %s\n' '' "${variable%%=*}" '' "$(yaml "${variable#*=}")"
  done
}

manifest() {
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $(yaml "${options[name]}")
  annotations:
    # One slice has one node pool to itself.
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: $((10#${options[max-restarts]}))
    # The next start needs the nodes' ports, so the last pods must be gone.
    restartStrategy: BlockingRecreate
    rules:
      - name: finalExitStatus
        action: FailJobSet
        onJobFailureReasons:
          - PodFailurePolicy
  replicatedJobs:
    - name: slice
      replicas: $((10#${options[slices]}))
      template:
        spec:
          parallelism: $hosts_per_slice
          completions: $hosts_per_slice
          completionMode: Indexed
          # The first lost host ends the Job; the JobSet then restarts every slice together.
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes:
                  containerName: train
                  operator: In
                  values: [1, 2, 130]
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: $((10#${options[grace-period]}))
              hostNetwork: true
              dnsPolicy: ClusterFirstWithHostNet
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: $gke_accelerator
                cloud.google.com/gke-tpu-topology: $shape
YAML
  if [ -n "${options[spot]-}" ]; then
    cat <<YAML
                cloud.google.com/gke-spot: "true"
              tolerations:
                - key: cloud.google.com/gke-spot
                  operator: Equal
                  value: "true"
                  effect: NoSchedule
YAML
  fi
  cat <<YAML
              containers:
                - name: train
                  image: $(yaml "${options[image]}")
                  command:
$(list 20 "${command[@]}")
                  env:
$(variables)
                  securityContext:
                    # The TPU driver locks more memory than a container may; buckets are mounted.
                    privileged: true
                  resources:
                    limits:
                      google.com/tpu: $chips_per_host
                  volumeMounts:
                    - name: shared-memory
                      mountPath: /dev/shm
YAML
  [ -z "$claim" ] || cat <<YAML
                    - name: shared
                      mountPath: $(yaml "$mount")
YAML
  cat <<YAML
              volumes:
                - name: shared-memory
                  emptyDir:
                    medium: Memory
                    sizeLimit: ${options[shared-memory]}
YAML
  [ -z "$claim" ] || cat <<YAML
                - name: shared
                  persistentVolumeClaim:
                    claimName: $(yaml "$claim")
YAML
}

if [ -n "$dry_run" ]; then
  printf "%s <<'YAML'\n%s\nYAML\n" "$(quoted kubectl apply --filename=- "${extra[@]}")" "$(manifest)"
else
  kubectl apply --filename=- "${extra[@]}" <<<"$(manifest)"
fi
