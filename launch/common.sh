# shellcheck shell=bash
# What the scripts here share; to be sourced. It installs Debian packages, builds, and starts ranks.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LC_ALL=C.UTF-8

# Threads are one a rank (OpenBLAS would start one a core in each). The rest is for containers: root may start
# ranks, and one rank may not read another's memory there.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# ranks N PROGRAM ARGUMENT...: N ranks here, also where there are fewer cores.
ranks() {
  local count=$1
  shift
  mpirun --oversubscribe --bind-to none -n "$count" "$@" </dev/null
}

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# missing_packages PACKAGE...: those of them that are not installed, one a line.
missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# install_packages PACKAGE...: installs what is missing, as root or by sudo, without a question; does not touch
# the network when nothing is.
install_packages() {
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "needs apt-get (Debian) to install: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "run as root, or install sudo; packages are missing: ${missing[*]}"
    as_root=(sudo)
  fi
  echo "installing: ${missing[*]}"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0)
  local log
  log=$(mktemp)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install ${missing[*]} (is there a network?)"
  fi
  rm -f "$log"
}

# unpack_program PACKAGE PROGRAM FOLDER: /usr/bin/PROGRAM out of a Debian package that is not installed, which would
# start a daemon, into FOLDER. Fails quietly where there is no network.
unpack_program() {
  local work
  [ ! -x "$3/$2" ] || return 0
  work=$(mktemp -d)
  (cd "$work" && timeout -k 5 120 apt-get -q download "$1" && dpkg-deb --fsys-tarfile ./*.deb | tar -x "./usr/bin/$2" &&
    mkdir -p "$3" && mv "usr/bin/$2" "$3") >"$work/log" 2>&1 </dev/null
  local code=$?
  rm -rf "$work"
  return $code
}

# What the build needs, and nothing more.
# shellcheck disable=SC2034  # for the scripts that source this
build_packages=(gcc g++ make cmake pkg-config libopenmpi-dev openmpi-bin libhdf5-openmpi-dev
  libopenblas-pthread-dev librandom123-dev libxxhash-dev libyaml-dev libjson-c-dev libmicrohttpd-dev libcurl4-openssl-dev zlib1g-dev check)

# build PRESET FOLDER [ARGUMENT...]: configures and builds; the arguments are the build's. A configuration that cannot
# be taken up, of a tree that has moved say, is made anew.
build() {
  local preset=$1 folder=$2
  shift 2
  (cd "$root" && { cmake --preset "$preset" || cmake --fresh --preset "$preset"; } &&
    cmake --build "$folder" -j "$(nproc)" "$@")
}

# start_job MPIRUN_OPTION... -- PROGRAM ARGUMENT...: starts ranks, and exits as they do. `shardbag train` gets a progress
# bar where stdout is a terminal, which a rank cannot tell; Ctrl-C and SIGTERM become SIGUSR1 for it: it writes a
# checkpoint and stops; and for `shardbag serve`, which answers what it has taken in. A second one ends it at once.
start_job() {
  local options=()
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  command -v mpirun >/dev/null || fail "mpirun is not there; on Debian: apt-get install openmpi-bin"
  tidy= # what it does before it ends
  [ "$(basename "$1")" != shardbag ] || [ "${2-}" != serve ] || tidy="an end"
  if [ "$(basename "$1")" = shardbag ] && [ "${2-}" = train ]; then
    tidy="a checkpoint and a stop"
    [ ! -t 1 ] || [[ " $* " = *" --progress"[\ =]* ]] || set -- "$@" --progress bar
  fi
  # In a session of its own, or mpirun would answer the terminal's Ctrl-C itself, by killing the ranks.
  setsid mpirun --bind-to none "${options[@]}" "$@" </dev/null &
  child=$!
  asked=no
  trap end_asked INT TERM HUP
  trap 'kill -USR1 "$child" 2>/dev/null' USR1
  # A trapped signal ends `wait`, not mpirun: wait again until it is gone.
  local code
  while :; do
    wait "$child"
    code=$?
    kill -0 "$child" 2>/dev/null || exit $code
  done
}

# The first request to end asks a training to save, a server to answer; everything else is ended.
# shellcheck disable=SC2317  # called by the traps
end_asked() {
  if [ -n "$tidy" ] && [ "$asked" = no ]; then
    asked=yes
    echo "$(basename "$0"): asked for $tidy; once more ends it at once" >&2
    kill -USR1 "$child" 2>/dev/null
  else
    kill -TERM "$child" 2>/dev/null
  fi
}
