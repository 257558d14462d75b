#!/usr/bin/env bash
# MovieLens trained on GPUs, as tests/cuda executes them, beside the CPU: equal losses and metrics, checkpoints that
# load on the other one, and refusals in one line. tests/cuda/train.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/../app/common.bash"
[ $# = 1 ] || fail "usage: train.sh BUILD_FOLDER"
begin "$1"
declare -A programs=([cpu]=$program [cuda]=$(dirname "$program")/tests/cuda/shardbag)
[ -x "${programs[cuda]}" ] || fail "${programs[cuda]} is not there; build its target test_cuda_app first"

data=$root/build/data/ml-100k
if ! "$root/launch/fetch_movielens.sh" "$data" >"$work/fetch" 2>&1; then
  echo "skipped: $(tail -n 1 "$work/fetch")"
  exit 0
fi

# train DEVICE FOLDER ARGUMENT...: 20 steps on two ranks; a checkpoint after ten of them.
train() {
  local device=$1 folder=$2
  shift 2
  EMU_DEVICES=${gpus-2} launch 2 "${programs[$device]}" train "$root/configs/movielens.yaml" \
    --device "$device" --set "data.movielens.folder=$data" --set "run.dir=$work/$folder" --set train.log_every=1 \
    --set train.max_steps=20 --set train.eval_every=off \
    --set checkpoint.every_steps=10 "$@"
}

# The numbers of a run after its step $2: a loss a line, then what the evaluations say.
numbers() {
  grep -E '"event":"(train|eval)"' "$work/$1/metrics.jsonl" | awk -F'[:,]' -v first="$2" '
    { step = ""; for (i = 1; i < NF; i++) if ($i ~ /"step"/) step = $(i + 1) }
    step + 0 > first { for (i = 1; i < NF; i++) if ($i ~ /"(loss|auc|logloss|accuracy)"/) print $i, $(i + 1) + 0 }'
}

# near A B FIRST: as many numbers behind step FIRST, and each of A within 1e-4 of B's.
near() {
  paste <(numbers "$1" "$3") <(numbers "$2" "$3") | awk -v first="$3" '
    NF != 4 || $1 != $3 { exit 1 }
    { d = $2 - $4; if (d < 0) d = -d; if (d > 1e-4 * $4) { print; bad = 1 } n++ }
    END { exit bad || n < 20 - first + 6 }'
}

for device in cpu cuda; do
  train $device $device
  check "$device trains" ended 0
done
check "GPUs learn what the CPU does" near cuda cpu 0

# From the other one's tenth step on.
for device in cpu cuda; do
  from=cuda
  [ $device = cuda ] || from=cpu
  other=$([ $device = cpu ] && echo cuda || echo cpu)
  mkdir "$work/on-$other"
  cp "$work/$from/ckpt-10.h5" "$work/on-$other"
  train "$other" "on-$other" --resume
  check "$other goes on from $from's checkpoint" printed '^resume: goes on from .*/ckpt-10\.h5$'
  check "$other ends where $from does" near "on-$other" "$from" 10
done

# eval on 1 and 3 ranks of what the other one wrote.
EMU_DEVICES=1 alone "${programs[cuda]}" eval "$work/cpu/ckpt-20.h5" "$root/configs/movielens.yaml" \
  --device cuda --set "data.movielens.folder=$data"
cp "$work/out" "$work/eval"
check "eval on a GPU" ended 0
launch 3 "$program" eval "$work/cpu/ckpt-20.h5" "$root/configs/movielens.yaml" --set "data.movielens.folder=$data"
check "eval on the CPU" cmp <(grep -E '^(valid|test) (auc|accuracy)' "$work/eval") \
  <(grep -E '^(valid|test) (auc|accuracy)' "$work/out")

# What a machine may lack.
gpus=1 train cuda few
check "fewer GPUs than ranks" ended 1 "GPU" "2 ranks"
gpus=0 train cuda none
check "no GPU" ended 1 "GPU"
gpus=0 train cuda auto --device auto
check "auto takes the CPU" ended 0
EMU_MEMORY=200000 train cuda small
check "a table that does not fit" ended 1 "GiB of GPU" "table '"
finish
