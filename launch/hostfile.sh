#!/usr/bin/env bash
# Starts a program on ranks of several machines: launch/hostfile.sh HOSTFILE PROGRAM [ARGUMENT...]
#
#   launch/hostfile.sh hosts build/shardbag train configs/movielens.yaml --set device=cuda
#
# HOSTFILE is Open MPI's, a machine a line with its number of ranks; for `device: cuda` that is its number of GPUs,
# because NCCL wants a GPU of its own for each rank:
#
#   node1 slots=8
#   node2 slots=8
#
# The machines are reached by ssh without a password, and have this tree, the data and run.dir at the same path (a
# shared file system, usually). Variables of NCCL and of OpenMP in this shell's environment go with the ranks:
# NCCL_SOCKET_IFNAME=eth0 names the network that GPUs meet on, NCCL_DEBUG=INFO says what NCCL found.
set -uo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  echo "hostfile.sh: $*; usage: launch/hostfile.sh HOSTFILE PROGRAM [ARGUMENT...]" >&2
  exit 2
}

[ $# -gt 1 ] || usage "a hostfile or a program is missing"
hosts=$1
shift
[ -r "$hosts" ] || usage "'$hosts' cannot be read"
without=$(sed -E 's/#.*//; /^[[:space:]]*$/d; /slots[[:space:]]*=[[:space:]]*[1-9]/d' "$hosts" | head -n 1)
[ -z "$without" ] || usage "$hosts: '$without' does not say how many ranks, as in 'node1 slots=8'"
count=$(sed -E 's/#.*//' "$hosts" |
  awk 'match($0, /slots[ \t]*=[ \t]*[0-9]+/) { s = substr($0, RSTART, RLENGTH); sub(/.*=/, "", s); n += s } END { print n + 0 }')
[ "$count" -gt 0 ] || usage "$hosts names no machine"

variables=()
for name in OMP_NUM_THREADS OPENBLAS_NUM_THREADS CUDA_VISIBLE_DEVICES LD_LIBRARY_PATH "${!NCCL_@}"; do
  [ -z "${!name+set}" ] || variables+=(-x "$name")
done

# Machine by machine, so that ranks that are neighbours share one.
start_job --hostfile "$hosts" --map-by slot -n "$count" "${variables[@]}" -- "$@"
