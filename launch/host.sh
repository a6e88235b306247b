#!/usr/bin/env bash
# On each TPU VM host, called over ssh. A run outlives the connection that started it: it holds
# run.lock while any of its processes lives, writes run.log, and leaves its status in run.status.
#   host.sh install [BUCKET...] | start COMMAND... | follow | status
set -euo pipefail
cd ~/echofm

alive() { ! flock --shared --nonblock run.lock true; }

install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc
  local packages=https://packages.cloud.google.com/apt
  curl --silent --show-error --fail "$packages/doc/apt-key.gpg" | sudo tee $key >/dev/null
  echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get update -qq
  sudo apt-get install -qq --yes gcsfuse
}

case $1 in
  install)
    # The images' own Python is older than 3.11; uv brings one.
    [ -x ~/.local/bin/uv ] || python3 -m pip install --quiet --user uv
    [ -x code/.venv/bin/python ] || ~/.local/bin/uv venv --quiet --python 3.12 code/.venv
    ~/.local/bin/uv pip install --quiet --python code/.venv/bin/python --editable 'code[tpu]'
    shift
    [ $# -eq 0 ] || command -v gcsfuse >/dev/null || install_gcsfuse
    code/launch/mount_buckets.sh "$@"
    ;;
  start)
    shift
    command=$(printf '%q ' "$@")
    if alive; then
      [ "$command" != "$(cat run.command)" ] || exit 0
      echo "$HOSTNAME: another run is alive here: $(cat run.command)" >&2
      exit 3
    fi
    rm -f run.pid run.status
    printf '%s' "$command" >run.command
    # A machine that shuts down signals this shell too; it must wait for the command all the same.
    # shellcheck disable=SC2016
    setsid nohup flock --timeout 10 run.lock bash -c '
      trap : TERM
      echo $$ >run.pid
      (cd code && exec "$@")
      echo $? >run.status.new
      mv run.status.new run.status' bash "$@" </dev/null >>run.log 2>&1 &
    until [ -s run.pid ]; do
      kill -0 $! || exit 1
      sleep 0.1
    done
    ;;
  follow)
    until_end=()
    ! alive || until_end=(--follow=name --pid="$(cat run.pid)" --sleep-interval=0.2)
    tail --lines=100 "${until_end[@]}" run.log
    ;;
  status)
    if alive; then
      echo "status $HOSTNAME running"
    elif [ -e run.status ]; then
      status=$(cat run.status)
      echo "status $HOSTNAME $status"
      [ "$status" = 0 ] || tail --lines=20 run.log | sed "s/^/$HOSTNAME: /" >&2
    else
      echo "status $HOSTNAME lost"
    fi
    ;;
esac
