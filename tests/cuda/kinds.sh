#!/usr/bin/env bash
# Classifiers, rankings and word vectors trained on GPUs, as tests/cuda executes them, beside the CPU: equal losses;
# and reproducible mode: equal weights on one GPU and on three. tests/cuda/kinds.sh BUILD_FOLDER; ends with
# `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/../app/common.bash"
[ $# = 1 ] || fail "usage: kinds.sh BUILD_FOLDER"
begin "$1"
declare -A programs=([cpu]=$program [cuda]=$(dirname "$program")/tests/cuda/shardbag)
[ -x "${programs[cuda]}" ] || fail "${programs[cuda]} is not there; build its target test_cuda_app first"

awk -v work="$work" 'BEGIN {
  srand(5)
  for (i = 0; i < 600; i++) {
    text = "w" i % 7
    for (w = 0; w < 6; w++) text = text " w" int(rand() * 40)
    print "class" i % 5 "\t" text >(work "/" (i < 500 ? "train" : "test") ".tsv")
    print text >(work "/text")
  }
  for (u = 0; u < 60; u++) {
    line = u
    for (i = 0; i < 12; i++) line = line " " u % 3 * 20 + i
    print line >(work "/train.txt")
    print u, u % 3 * 20 + 13 >(work "/test.txt")
  }
}'
# shellcheck disable=SC2034  # by their names
text=(--set "data.text.train=$work/train.tsv" --set "data.text.test=$work/test.tsv"
  --set "data.text.valid=$work/test.tsv" --set data.text.buckets=512 --set table.dim=8 --set "model.top=[9]")
# shellcheck disable=SC2034
ranking_lists=(--set "data.ranking.train=$work/train.txt" --set "data.ranking.test=$work/test.txt" --set table.dim=12
  --set data.ranking.negatives=9)
# shellcheck disable=SC2034
cbow=(--set "data.corpus.path=$work/text" --set table.dim=12 --set data.corpus.min_count=1)

# train DEVICE RANKS FOLDER CONFIG ARGUMENT...: twelve steps.
train() {
  local device=$1 count=$2 folder=$3 config=$4
  shift 4
  local -n keys=$config
  EMU_DEVICES=$count launch "$count" "${programs[$device]}" train "$root/configs/$config.yaml" --device "$device" \
    "${keys[@]}" --set "run.dir=$work/$folder" --set train.log_every=1 --set train.max_steps=12 \
    --set train.global_batch=128 --set train.eval_every=off "$@"
}
losses() { grep -oE '"event":"train".*"loss":[0-9.e-]+' "$work/$1/metrics.jsonl" | sed 's/.*://'; }
alike() {
  paste <(losses "$1") <(losses "$2") |
    awk '{ d = $1 - $2; if (d < 0) d = -d; bad += !(d <= 1e-4 * $1) } END { exit bad || NR != 12 }'
}
same() {
  "$program" ckpt diff "$work/$1/ckpt-12.h5" "$work/$2/ckpt-12.h5" >"$work/out" 2>"$work/err"
  [ "$(cut -d: -f1 "$work/out")" = config ]
}

for config in text ranking_lists cbow; do
  for device in cpu cuda; do
    train $device 2 $config-$device $config
    check "$config on $device" ended 0
  done
  check "$config: the same losses" alike $config-cpu $config-cuda
done
for config in text ranking_lists; do
  for count in 1 3; do
    train cuda $count $config-$count $config --set train.reproducible=true
    check "$config, reproducible on $count" ended 0
  done
  check "$config, reproducible: the same weights" same $config-1 $config-3
done
EMU_DEVICES=2 launch 2 "${programs[cuda]}" eval "$work/text-1/ckpt-12.h5" "$root/configs/text.yaml" --device cuda "${text[@]}"
cp "$work/out" "$work/eval"
alone "$program" eval "$work/text-1/ckpt-12.h5" "$root/configs/text.yaml" "${text[@]}"
check "an evaluation on GPUs" cmp "$work/eval" "$work/out"
finish
