# Sourced by tpu_vm.sh and queued_resource.sh: a run on the hosts of TPU VMs, until it is done.
# They define `nodes` (one TPU VM a slice) and
#   ready_slices   returns when all are up, fails when they cannot be; called before every start
#   slices_gone    whether one was taken away, for certain

options+=([zone]='' [project]='' [topology]='' [runtime-version]='' [poll]=30)
host='bash echofm/code/launch/host.sh'

# Common part of both command lines.
choose_slices() {
  need zone topology
  need_number poll 0 3600
  choose_topology "${options[topology]}"
  runtime_version=${options[runtime-version]:-$runtime_version}
  where=(--zone="${options[zone]}")
  [ -z "${options[project]}" ] || where+=(--project="${options[project]}")
}

# on_hosts NODE WORKER COMMAND: WORKER is a number or all
on_hosts() { run gcloud compute tpus tpu-vm ssh "$1" "${where[@]}" --worker="$2" --command="$3"; }

pause() { [ -n "$dry_run" ] || sleep "${options[poll]}"; }

# After a failure that the next try may not meet: three in a row are something else.
failures=0
once_more() {
  ((++failures < 3)) || { say "$1, three times in a row: see above"; return 1; }
  pause
}

install_and_start() {
  local archive=build/${options[name]}.tar.gz node unpack install start
  unpack="tar --extract --gzip --file=echofm.tar.gz --directory=echofm/code"
  # The code of a run that is alive stays as it is.
  install="mkdir -p echofm/code && flock --nonblock --close --conflict-exit-code=0 echofm/run.lock"
  install+=" sh -c '$unpack && $host install ${buckets[*]}'"
  start="$host start $(quoted env "${environment[@]}" .venv/bin/echofm train "${training[@]}")"
  run mkdir -p build || return
  run tar --create --gzip --file="$archive" --exclude=__pycache__ \
    echofm_jax configs data_pipelines launch setup.py pyproject.toml README.md || return
  for node in "${nodes[@]}"; do
    run gcloud compute tpus tpu-vm scp "$archive" "$node:echofm.tar.gz" "${where[@]}" \
      --worker=all || return
    on_hosts "$node" all "$install" || return
  done
  for node in "${nodes[@]}"; do
    on_hosts "$node" all "$start" || return
  done
}

# Sets `outcome`: the run's final exit status, `again` (start it once more) or `gone` (no slice).
await_outcome() {
  local node report statuses unheard=0 hosts=$((${#nodes[@]} * hosts_per_slice))
  while :; do
    on_hosts "${nodes[0]}" 0 "$host follow" || true
    report=''
    for node in "${nodes[@]}"; do
      report+=$(answer '' gcloud compute tpus tpu-vm ssh "$node" "${where[@]}" --worker=all \
        --command="$host status")$'\n' || true
    done
    [ -z "$dry_run" ] || { outcome=0; return; }
    statuses=" $(awk '$1 == "status" {printf "%s ", $3}' <<<"$report")"
    case $statuses in
      *' running '*) unheard=0 ;;
      *' 1 '*) outcome=1; return ;;
      *' 2 '*) outcome=2; return ;;
      *' 130 '*) outcome=130; return ;;
      *)
        if (($(wc -w <<<"$statuses") == hosts)); then
          outcome=again
          [ -n "${statuses//[ 0]/}" ] || outcome=0
          return
        elif slices_gone; then
          outcome=gone
          return
        elif ((++unheard == 20)); then # ssh may not reach a host that the cloud calls ready
          say "only $(wc -w <<<"$statuses") of $hosts hosts answer"
          outcome=again
          return
        fi
        ;;
    esac
    pause
  done
}

# Returns the run's final exit status, or 75 when it has been started often enough.
run_until_done() {
  local restarts=0 status
  trap 'say "stopped watching, the run goes on: the same command follows it again"; exit 130' INT
  run cd "$root"
  while :; do
    ready_slices || return
    status=0
    install_and_start || status=$?
    if ((status == 3)); then
      exit 2 # and leave the slices to the run that has them
    elif ((status == 2)); then
      return 2
    elif ((status)); then
      once_more "cannot install or start on ${nodes[*]}" || return
      continue
    fi
    failures=0
    await_outcome
    case $outcome in
      gone) say "a slice was taken away" ;;
      again)
        ((++restarts <= options[max-restarts])) ||
          { say "not done after ${options[max-restarts]} restarts"; return 75; }
        say "stopped before the end: restart $restarts"
        ;;
      *) return "$outcome" ;;
    esac
  done
}
