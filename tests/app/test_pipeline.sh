#!/usr/bin/env bash
# train.pipeline changes no bit: weights, optimizer states and metrics with it are those without it; and an error in the
# next batch is told as without it. tests/app/test_pipeline.sh BUILD_FOLDER; ends with
# `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_pipeline.sh BUILD_FOLDER"
begin "$1"

# What makes order matter: rows renormalised as they are read, rows that lag behind their decay or momentum, mirrors,
# clipping; epochs that end within the run, evaluations and checkpoints on the way.
cat >"$work/small.yaml" <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [2500, 500, 500], dense_count: 4, rows: [500, 300, 7, 40], bag_length: [1, 5, 2, 1], zipf: 1.05}
table: {dim: 8, max_norm: 0.5, optimizer: {name: adagrad, lr: 0.1, weight_decay: 0.001}}
tables:
  - {name: feature_1, optimizer: {name: adam, lr: 0.01}}
  - {name: feature_2, replicated: true, optimizer: {name: exact_rowwise_adagrad, lr: 0.1, weight_decay: 0}}
  - {name: feature_3, optimizer: {name: sgd, lr: 0.1, momentum: 0.9}}
features: [{name: feature_1, mode: mean}, {name: feature_2, mode: max}]
model: {bottom: [16], top: [16], dropout: 0.1, clip_norm: 1, optimizer: {name: adam, lr: 0.01}}
schedule: {kind: polynomial, decay_steps: 40, end: 0.1}
checkpoint: {every_steps: 7}
train: {global_batch: 128, log_every: 3, epochs: 2, eval_every: 9}
YAML

# train RANKS RUN ARGUMENT...
train() {
  local count=$1 run=$2
  shift 2
  launch "$count" "$program" train "$work/small.yaml" --set "run.dir=$work/$run" "$@"
}

# told RUN: what metrics.jsonl says, without the clock's share.
told() {
  grep -E '"event":"(train|eval)"' "$work/$1/metrics.jsonl" |
    sed -E 's/,"(samples_per_s|seconds|slowest_rank|slowest_ms|median_ms)":[^,}]*//g'
}
same_metrics() { [ "$(told "$1")" = "$(told "$2")" ] && [ "$(told "$1" | wc -l)" -gt 15 ]; }
# same_weights RUN RUN: at every checkpoint nothing but the config differs.
same_weights() {
  local step
  for step in 7 35 40; do
    "$program" ckpt diff "$work/$1/ckpt-$step.h5" "$work/$2/ckpt-$step.h5" >"$work/out" 2>"$work/err"
    [ "$(cut -d: -f1 "$work/out")" = config ] || return 1
  done
}

for n in 1 2 3 4 8; do
  train $n with$n
  check "with the pipeline on $n ranks" ended 0
  train $n without$n --set train.pipeline=false
  check "without it on $n ranks" ended 0
  check "weights and states on $n ranks" same_weights with$n without$n
  check "metrics on $n ranks" same_metrics with$n without$n
done
train 3 fixed --set train.reproducible=true
train 2 fixed2 --set train.reproducible=true --set train.pipeline=false
check "reproducible, also on other ranks" same_weights fixed fixed2

### how evenly the ranks work
check "the log's ranks" grep -qE '"sent_bytes_mean":[0-9.]+,"sent_bytes_max":[0-9.]+,"owned_rows_median":[0-9.]+,"owned_rows_max":[0-9.]+,"slowest_rank":[0-2],"slowest_ms":[0-9.]+,"median_ms":[0-9.]+,"wire_error":0(\.0)?,"hot_table":"feature_[0-9]","hot_row":[0-9]+,"hot_lookups":[0-9]+\}' "$work/with3/metrics.jsonl"
train 2 lines
check "and its second line" printed '^  ranks: [0-9.]+ kB sent, most [0-9.]+; [0-9.]+ rows owned, most [0-9.]+; .*; hottest feature_[0-9]\[[0-9]+\], [0-9]+ lookups$'

### ways and wires
for way in pools rows dense; do
  train 3 $way --set exchange=$way
  check "exchange=$way trains" ended 0
done
train 3 f16 --set wire.vectors=f16
check "wire.vectors=f16 trains" ended 0
check "what the wire took is logged" grep -qE '"wire_error":0\.000[0-9]+' "$work/f16/metrics.jsonl"
check "and printed" printed '; the wire took [0-9.e-]+ of vectors$'
train 3 none --set exchange=some
check "no such way" ended 2 "'exchange'" "auto, pools, rows or dense"

### a row that cannot be read: told alike, by the rank that has it, whichever step was under way
for i in $(seq 1 400); do printf '%d\t%d\n' $((i % 2)) $((i % 50)); done >"$work/data.tsv"
sed -i '310s/.*/1\t77/' "$work/data.tsv"
cat >"$work/file.yaml" <<YAML
data:
  kind: delimited
  shuffle: false
  delimited:
    path: $work/data.tsv
    split: [1, 0, 0]
    split_by: order
    columns: [{name: label, kind: label}, {name: item, kind: one_hot, mapping: identity, rows: 60}]
table: {dim: 4}
model: {top: [4]}
train: {global_batch: 100, log_every: 1}
YAML
for pipeline in true false; do
  launch 2 "$program" train "$work/file.yaml" --set "run.dir=$work/bad$pipeline" --set train.pipeline=$pipeline
  check "a bad row, pipeline $pipeline" ended 1 "data.tsv:310" "77"
done

finish
