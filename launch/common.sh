# Sourced by the launchers: their arguments, what is refused, quoting, --dry-run.
# A launcher fills `options` (its own flags and their defaults) and calls parse_arguments "$@".

declare -A options=([compile-cache]='' [extra]='' [libtpu-flags]='' [max-restarts]=200 [name]='' [port]=8476)
switches=' dry-run '
extra=()    # --extra=FLAG, each
training=() # --config=FILE, --config.…=…, --workdir=DIR: unchanged, in order
config='' workdir='' dry_run=''
shared_by='say --shared-workdir if every host has that folder and it stays'

usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
  cat <<TEXT

Every launcher takes
  --name=NAME            of the run, and of what is created for it
  --config=FILE.py[:VARIANT] --workdir=DIR --config.…=…     as \`echofm train\` does, unchanged
  --dry-run              print the commands, run none
  --compile-cache=DIR    compiled programs are kept here (default: beside the workdir; none: off)
  --port=PORT            of JAX's coordinator (default ${options[port]:-chosen by JAX})
  --max-restarts=N       give up after so many (default ${options[max-restarts]})
  --extra=FLAG           one more flag for the command that asks for machines; may be repeated
TEXT
  if [[ -v options[libtpu-flags] ]]; then
    echo "  --libtpu-flags=NAME,…  $(libtpu_flag_sets) (default: none)"
  fi
  echo "Exit status 0, 1, 2 and 130 of the run are final; after any other it is started again."
}

refuse() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 2
}

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

parse_arguments() {
  local name value
  while [ $# -gt 0 ]; do
    [[ $1 != *[[:cntrl:]]* ]] || refuse "an argument has a line break or control character in it"
    case $1 in
      -h | --help) usage; exit 0 ;;
      --config.?*=*) training+=("$1"); shift; continue ;;
      --config.*) refuse "$1 has no value: write $1=VALUE" ;;
      --*) ;;
      *) refuse "unexpected argument '$1': see --help" ;;
    esac
    name=${1#--} name=${name%%=*}
    [[ $name =~ ^[a-z-]+$ ]] || refuse "unknown option --$name: see --help"
    if [[ $switches == *" $name "* ]]; then
      [ "$1" = "--$name" ] || refuse "--$name takes no value"
      options[$name]=yes
      shift
      continue
    fi
    [[ $name == config || $name == workdir || -v options[$name] ]] ||
      refuse "unknown option --$name: see --help"
    if [[ $1 == *=* ]]; then value=${1#*=}; else value=${2-}; fi
    [ -n "$value" ] || refuse "--$name needs a value"
    [[ $value != *[[:cntrl:]]* ]] || refuse "--$name has a line break or control character in it"
    case $name in
      config) [ -z "$config" ] || refuse "two configs: give one --config"; config=$value ;;
      workdir) [ -z "$workdir" ] || refuse "two workdirs: give one --workdir"; workdir=$value ;;
      extra) extra+=("$value") ;;
      *) options[$name]=$value ;;
    esac
    [[ $name != config && $name != workdir ]] || training+=("--$name=$value")
    if [[ $1 == *=* ]]; then shift; else shift 2; fi
  done
  dry_run=${options[dry-run]-}
}

# ---- what is refused before anything is contacted ---------------------------------------------

need() {
  local name
  for name; do
    [ -n "${options[$name]}" ] || refuse "--$name is missing: see --help"
  done
}

need_number() {
  local name=$1 least=$2 most=$3 value=${options[$1]}
  [[ $value =~ ^[0-9]{1,6}$ ]] && ((10#$value >= least && 10#$value <= most)) ||
    refuse "--$name=$value is not a number from $least to $most"
}

# check_training HOSTS EPHEMERAL: with several hosts, or on disks that vanish with the machine
# (EPHEMERAL=yes), only a bucket or a path that is said to be shared can be the workdir.
check_training() {
  local hosts=$1 ephemeral=$2 shared=${options[shared-workdir]-} name=${options[name]} file
  need name
  [[ $name =~ ^[a-z]([-a-z0-9]{0,37}[a-z0-9])?$ ]] ||
    refuse "--name=$name is not a name: up to 39 of a-z, 0-9 and -, starting with a letter"
  [ -n "$config" ] || refuse "no config: give --config=FILE.py"
  file=${config%%:*}
  [[ $file != /* && -f $root/$file ]] ||
    refuse "no config $file in $root: give a path from there, such as configs/vit_l.py"
  [ -n "$workdir" ] || refuse "no workdir: give --workdir=gs://BUCKET/RUN"
  [[ $workdir =~ ^[A-Za-z0-9_./:@%+=-]+$ ]] || refuse "--workdir=$workdir has odd characters"
  if [[ $workdir != gs://?* && -z $shared ]]; then
    ((hosts == 1)) ||
      refuse "$hosts hosts cannot share --workdir=$workdir on a local disk: give gs://BUCKET/RUN," \
        "or $shared_by"
    [ -z "$ephemeral" ] ||
      refuse "--workdir=$workdir is lost with the machine's disk: give gs://BUCKET/RUN, or $shared_by"
  fi
  need_number max-restarts 0 100000
  [ -z "${options[port]}" ] || need_number port 1024 65535
}

# ---- what every process is started with -------------------------------------------------------

# Where launch/mount_buckets.sh puts a gs:// address.
mounted() { printf '%s' "${1/#gs:\/\///gcs/}"; }

# Sets `buckets`: each that the run reads or writes.
find_buckets() {
  local word
  buckets=()
  for word in "${training[@]#--*=}" "${options[compile-cache]}"; do
    [[ $word =~ ^gs://([a-z0-9][a-z0-9._-]*)(/|$) ]] || continue
    [[ " ${buckets[*]} " == *" ${BASH_REMATCH[1]} "* ]] || buckets+=("${BASH_REMATCH[1]}")
  done
}

libtpu_flag_sets() { awk '/^[a-z]/ {printf "%s%s", sep, $1; sep=", "}' "$root/launch/libtpu_flags.txt"; }

libtpu_flags() {
  local name flags= line
  for name in ${1//,/ }; do
    [[ $name =~ ^[a-z0-9_]+$ ]] && line=$(grep "^$name " "$root/launch/libtpu_flags.txt") ||
      refuse "unknown set of libtpu flags '$name': $(libtpu_flag_sets)"
    [[ ! $name =~ ^(v[0-9][a-z])_ || ${BASH_REMATCH[1]} == "$generation" ]] ||
      refuse "libtpu takes the flags $name on ${BASH_REMATCH[1]}, not on $generation"
    flags+=" ${line#* }"
  done
  printf '%s' "${flags# }"
}

# Sets `environment`, NAME=VALUE each, and `buckets`.
make_environment() {
  find_buckets
  local cache=${options[compile-cache]:-$(dirname "$workdir")/compile-cache} flags
  [[ $cache =~ ^[A-Za-z0-9_./:@%+=-]+$ ]] || refuse "--compile-cache=$cache has odd characters"
  environment=()
  [ -z "${options[port]}" ] || environment+=("JAX_COORDINATOR_PORT=${options[port]}")
  if [ "$cache" = none ]; then
    environment+=("JAX_ENABLE_COMPILATION_CACHE=false")
  else
    environment+=("JAX_COMPILATION_CACHE_DIR=$(mounted "$cache")")
  fi
  if [ -n "${options[libtpu-flags]-}" ]; then
    flags=$(libtpu_flags "${options[libtpu-flags]}") || exit 2
    environment+=("LIBTPU_INIT_ARGS=$flags")
  fi
}

# ---- running, or printing what would run ------------------------------------------------------

# The arguments as one line that a shell reads back as exactly these.
quoted() {
  local word line='' quote="'\\''"
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] || word="'${word//\'/$quote}'"
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

exec 3>&1 # a dry run prints here from inside $(…) as well

run() {
  if [ -n "$dry_run" ]; then printf '%s\n' "$(quoted "$@")" >&3; else "$@"; fi
}

# answer PRETENDED COMMAND...: the command's output; PRETENDED in a dry run.
answer() {
  if [ -n "$dry_run" ]; then printf '%s\n' "$(quoted "${@:2}")" >&3; echo "$1"; else "${@:2}"; fi
}
