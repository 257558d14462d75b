#!/usr/bin/env bash
# Starts a program on ranks of this machine: launch/local.sh [-n] RANKS PROGRAM [ARGUMENT...]
#
#   launch/local.sh -n 2 build/shardbag train configs/movielens.yaml
#
# It sets what MPI wants when root, gives every rank one thread, lets ranks share cores where there are fewer, and
# hands `shardbag train` a progress bar where stdout is a terminal (a rank cannot tell). Ctrl-C and SIGTERM become
# SIGUSR1 for a training: it writes a checkpoint and stops; a second one ends it at once.
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
command -v mpirun >/dev/null || fail "mpirun is not there; on Debian: apt-get install openmpi-bin"

training=no
if [ "$(basename "$1")" = shardbag ] && [ "${2-}" = train ]; then
  training=yes
  [ ! -t 1 ] || [[ " $* " = *" --progress"[\ =]* ]] || set -- "$@" --progress bar
fi

# The first request to end asks a training to save; everything else is ended.
asked=no
# shellcheck disable=SC2317  # called by the traps
request() {
  if [ "$training" = yes ] && [ "$asked" = no ]; then
    asked=yes
    echo "local.sh: asked for a checkpoint and a stop; once more ends it at once" >&2
    kill -USR1 "$child" 2>/dev/null
  else
    kill -TERM "$child" 2>/dev/null
  fi
}

# In a session of its own, or mpirun would answer the terminal's Ctrl-C itself, by killing the ranks.
setsid mpirun --oversubscribe --bind-to none -n "$count" "$@" </dev/null &
child=$!
trap request INT TERM HUP
trap 'kill -USR1 "$child" 2>/dev/null' USR1

# A trapped signal ends `wait`, not mpirun: wait again until it is gone.
while :; do
  wait "$child"
  code=$?
  kill -0 "$child" 2>/dev/null || exit $code
done
