#!/usr/bin/env bash
# The models that a config makes of its layers, through the command: on any number of ranks, saved, resumed, evaluated.
# tests/app/test_models.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_models.sh BUILD_FOLDER"
begin "$1"
cat >"$work/small.yaml" <<YAML
data:
  kind: synthetic
  synthetic: {samples: [512, 128, 128], dense_count: 3, rows: [20, 50, 30], bag_length: [1, 3, 2], zipf: 1.05}
table: {dim: 4, init: normal, init_b: 0.3}
model: {bottom: [8], top: [8]}
train: {global_batch: 64, log_every: 4, epochs: 2, reproducible: true}
YAML

# train RANKS RUN ARGUMENT...
train() {
  local count=$1 folder=$2
  shift 2
  if [ "$count" = 1 ]; then
    alone "$program" train "$work/small.yaml" --set "run.dir=$work/$folder" "$@"
  else
    launch "$count" "$program" train "$work/small.yaml" --set "run.dir=$work/$folder" "$@"
  fi
}
# same_weights RUN RUN: at the end nothing but the config differs.
same_weights() {
  "$program" ckpt diff "$work/$1/ckpt-16.h5" "$work/$2/ckpt-16.h5" >"$work/out" 2>"$work/err"
  [ "$(cut -d: -f1 "$work/out")" = config ]
}
holds() { "$program" ckpt ls "$work/$1/ckpt-16.h5" >"$work/out" && grep -qF -- "$2" "$work/out"; }

dcn=(--set model.interaction=cross --set model.cross_layers=2)
deepfm=(--set model.interaction=fm --set model.first_order=true)
wide=(--set model.interaction=concat --set model.first_order=true --set model.first_order_optimizer.name=exact_sgd)
# on_ranks NAME ARGUMENT...
on_ranks() {
  train 1 "${1}1" "${@:2}"
  check "$1 on one rank" ended 0
  train 4 "${1}4" "${@:2}"
  check "$1 on 4 ranks" ended 0
  check "$1, the same weights on 1 and 4 ranks" same_weights "${1}1" "${1}4"
}
on_ranks dcn "${dcn[@]}"
on_ranks deepfm "${deepfm[@]}"
on_ranks wide "${wide[@]}"
check "cross layers" holds dcn1 dense/cross/1/weight
check "first order, a table a feature" holds deepfm4 tables/feature_1.first_order/weight
check "first order of dense values" holds deepfm4 dense/first_order/weight
check "the tables' own optimizer" [ "$("$program" ckpt ls "$work/wide1/ckpt-16.h5" | grep -c 'first_order/state')" = 0 ]
train 2 low "${dcn[@]}" --set model.cross_rank=2 --set model.cross_structure=parallel
check "low rank, parallel" holds low dense/cross/0/down/weight
check "the cross layers' way out" holds low dense/cross/out/weight

# Interrupted in the middle, on other ranks: the same weights.
train 2 half "${deepfm[@]}" --set checkpoint.every_steps=8 --set train.max_steps=8
launch 1 "$program" train "$work/small.yaml" "${deepfm[@]}" --set "run.dir=$work/half" --resume
check "resumes" same_weights deepfm1 half
alone "$program" eval "$work/deepfm1/ckpt-16.h5" "$work/small.yaml" "${deepfm[@]}"
check "evaluates" printed '^test auc 0\.'
alone "$program" predict "$work/deepfm1/ckpt-16.h5" "$work/small.yaml" "${deepfm[@]}" --split test
check "predicts" [ "$(wc -l <"$work/out")" = 128 ]
alone "$program" plan "$work/small.yaml" "${deepfm[@]}" --ranks 4
check "plans" printed 'feature_2\.first_order'
alone "$program" eval "$work/deepfm1/ckpt-16.h5" "$work/small.yaml"
check "another model's checkpoint" ended 2 feature_0.first_order

### configs that are refused
train 1 no --set model.interaction=crossed
check "no such interaction" ended 2 "model.interaction" "cross"
train 1 no "${dcn[@]}" --set model.cross_layers=0
check "no cross layers" ended 2 cross_layers
train 1 no "${deepfm[@]}" --set 'tables=[{name: feature_1.first_order, dim: 4}]'
check "first order of dim 4" ended 2 "feature_1.first_order" "dim must be 1"
train 1 no "${deepfm[@]}" --set 'tables=[{name: feature_1.first_order, optimizer: {name: adam, lr: 0.5}}]' --set train.max_steps=1
check "a table of first order by itself" ended 0
train 1 no --set 'tables=[{name: feature_1.first_order}]'
check "first order that is not there" ended 2 "no feature looks up table 'feature_1.first_order'"
finish
