# shellcheck shell=bash
# What the scripts here share; to be sourced. It installs Debian packages, builds, and starts ranks on this machine.

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

# What the build needs, and nothing more.
# shellcheck disable=SC2034  # for the scripts that source this
build_packages=(gcc g++ make cmake pkg-config libopenmpi-dev openmpi-bin libhdf5-openmpi-dev
  libopenblas-pthread-dev librandom123-dev libxxhash-dev libyaml-dev libjson-c-dev zlib1g-dev check)

# build PRESET FOLDER [ARGUMENT...]: configures and builds; the arguments are the build's. A configuration that cannot
# be taken up, of a tree that has moved say, is made anew.
build() {
  local preset=$1 folder=$2
  shift 2
  (cd "$root" && { cmake --preset "$preset" || cmake --fresh --preset "$preset"; } &&
    cmake --build "$folder" -j "$(nproc)" "$@")
}
