#!/usr/bin/env bash
# A program built with CUDA, on a machine that may have no GPU: device=cuda then says so in one line, and device=auto
# takes the CPU. tests/cuda/no_gpu.sh BUILD_FOLDER
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/../app/common.bash"
[ $# = 1 ] || fail "usage: no_gpu.sh BUILD_FOLDER"
begin "$1"
config=$(cd "$(dirname "$0")/../.." && pwd)/configs/synthetic.yaml
short=(--set train.max_steps=3 --set run.checkpoint=false --set "data.synthetic.samples=[3072, 256, 256]")
if nvidia-smi >/dev/null 2>&1; then
  echo "skipped: this machine has a GPU"
else
  launch 2 "$program" train "$config" "${short[@]}" --set "run.dir=$work/none" --set device=cuda
  check "no GPU is one line" ended 1 "GPU"
fi
launch 2 "$program" train "$config" "${short[@]}" --set "run.dir=$work/auto" --set device=auto
check "auto trains" ended 0
finish
