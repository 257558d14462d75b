#!/bin/sh
# Starts a program on the ranks of this machine:
#
#   launch/local.sh -n 2 build/shardbag train configs/movielens.yaml
#
# It sets what MPI wants when root, gives every rank one thread, lets ranks share cores where there are more
# of them, and hands `shardbag train` a progress bar where stdout is a terminal (a rank cannot tell). Ctrl-C
# and SIGTERM become SIGUSR1 for a training: it writes a checkpoint and stops; a second one ends it at once.
set -u

usage() {
  echo "usage: launch/local.sh [-n RANKS] PROGRAM [ARGUMENTS ...]"
}

cores=$(nproc)
ranks=$cores
while [ $# -gt 0 ]; do
  case $1 in
  -n)
    [ $# -ge 2 ] || { usage >&2; exit 2; }
    ranks=$2
    shift 2
    ;;
  -h | --help)
    usage
    exit 0
    ;;
  -*)
    echo "launch/local.sh: unknown option '$1'; $(usage)" >&2
    exit 2
    ;;
  *) break ;;
  esac
done
[ $# -gt 0 ] || { usage >&2; exit 2; }
case $ranks in
'' | *[!0-9]* | 0)
  echo "launch/local.sh: -n '$ranks' is no number of ranks" >&2
  exit 2
  ;;
esac
command -v mpirun >/dev/null || {
  echo "launch/local.sh: mpirun is not there; on Debian: apt-get install openmpi-bin" >&2
  exit 1
}

if [ "$(id -u)" -eq 0 ]; then
  OMPI_ALLOW_RUN_AS_ROOT=1
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
fi
# A rank is one thread; OpenBLAS would start one for each core in every rank.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
export OMP_NUM_THREADS OPENBLAS_NUM_THREADS

training=no
if [ "$(basename "$1")" = shardbag ] && [ "${2:-}" = train ]; then
  training=yes
  if [ -t 1 ]; then
    chosen=no
    for word in "$@"; do
      case $word in --progress | --progress=*) chosen=yes ;; esac
    done
    [ $chosen = yes ] || set -- "$@" --progress bar
  fi
fi

# mpirun runs in a session of its own: it would answer the terminal's interrupt by killing the ranks.
asked=no
request() {
  if [ $training = yes ] && [ $asked = no ]; then
    asked=yes
    echo "launch/local.sh: asked for a checkpoint and a stop; once more ends it at once" >&2
    kill -USR1 "$child" 2>/dev/null
  else
    kill -TERM "$child" 2>/dev/null
  fi
}
forward() {
  kill -USR1 "$child" 2>/dev/null
}
setsid mpirun --oversubscribe --bind-to none -n "$ranks" "$@" </dev/null &
child=$!
trap request INT TERM HUP
trap forward USR1

# A trapped signal ends `wait`, not mpirun: wait again until it is gone.
code=0
while :; do
  wait "$child"
  code=$?
  kill -0 "$child" 2>/dev/null || break
done
exit $code
