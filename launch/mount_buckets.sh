#!/usr/bin/env bash
# Mounts buckets where echofm looks for gs://BUCKET, then becomes the command:
#   mount_buckets.sh [BUCKET...] [-- COMMAND...]
set -euo pipefail
place=${ECHOFM_BUCKETS:-/gcs}
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

while [ $# -gt 0 ] && [ "$1" != -- ]; do
  for attempt in 1 2 3 4 5; do
    ! mountpoint --quiet "$place/$1" || break
    as_root mkdir -p "$place/$1"
    as_root chown "$(id -u)" "$place/$1"
    # A flat bucket renames a folder object by object, and only up to this many.
    ! gcsfuse --implicit-dirs --rename-dir-limit=200000 "$1" "$place/$1" || break
    ((attempt < 5)) || { echo "mount_buckets.sh: cannot mount gs://$1, see above" >&2; exit 2; }
    sleep "${MOUNT_PAUSE:-10}"
  done
  shift
done
[ $# -eq 0 ] || exec "${@:2}"
