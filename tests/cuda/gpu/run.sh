#!/usr/bin/env bash
# Runs a program on ranks with a GPU each, or says that it skipped and exits with 77: run.sh RANKS PROGRAM ARGUMENT...
set -uo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/../../../launch/common.sh"
[ $# -ge 2 ] || fail "usage: run.sh RANKS PROGRAM ARGUMENT..."
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')
if [ "$gpus" -lt "$1" ]; then
  echo "skipped: this needs $1 GPUs, and there are $gpus"
  exit 77
fi
export SHARDBAG_SOURCE_DIR=$root
ranks "$@"
