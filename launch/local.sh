#!/usr/bin/env bash
# Starts a program on ranks of this machine: launch/local.sh [-n] RANKS PROGRAM [ARGUMENT...]
#
#   launch/local.sh -n 2 build/shardbag train configs/movielens.yaml
#
# It sets what MPI wants when root, gives every rank one thread, lets ranks share cores where there are fewer, and
# hands `shardbag train` a progress bar where stdout is a terminal (a rank cannot tell). Ctrl-C and SIGTERM become
# SIGUSR1 for a training, which writes a checkpoint and stops, and for a server, which answers what it has taken in; a
# second one ends it at once.
set -uo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  echo "local.sh: $*; usage: launch/local.sh [-n] RANKS PROGRAM [ARGUMENT...]" >&2
  exit 2
}

[ "${1-}" != -n ] || shift
[[ ${1-} =~ ^[1-9][0-9]*$ ]] || usage "'${1-}' is no number of ranks"
count=$1
shift
[ $# -gt 0 ] || usage "a program is missing"

start_job --oversubscribe -n "$count" -- "$@"
