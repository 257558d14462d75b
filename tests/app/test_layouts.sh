#!/usr/bin/env bash
# A checkpoint of 4 ranks in one layout starts tables on 1, 3, 8 and 4 ranks in every layout: the rows stay the same.
# tests/app/test_layouts.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_layouts.sh BUILD_FOLDER"
begin "$1"
cd "$work" || exit 1

cat >small.yaml <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [1280, 0, 0], dense_count: 4, rows: [5000, 300, 3], bag_length: [1, 5, 2]}
table: {dim: 8, optimizer: {name: adagrad, lr: 0.1}}
model: {bottom: [16], top: [16]}
train: {global_batch: 128}
YAML

# run NAME RANKS SETTING...: trains; its checkpoint is NAME.h5.
run() {
  local name=$1 count=$2 setting settings=()
  shift 2
  for setting in "$@"; do settings+=(--set "$setting"); done
  launch "$count" "$program" train small.yaml --set run.dir="$name" --progress none "${settings[@]}"
  [ "$code" = 0 ] && mv "$name"/ckpt-*.h5 "$name.h5"
}

# rows FILE: a table's rows, as bytes.
rows() {
  local table
  for table in feature_0 feature_1 feature_2; do
    "$program" ckpt export "$1" rows.npy --table "$table" >/dev/null 2>&1 || return 1
    cat rows.npy
  done
}

still=(train.max_steps=1 table.optimizer.lr=0 model.optimizer.lr=0)
for from in block cyclic scramble; do
  run "$from" 4 table.layout=$from && rows "$from.h5" >"$from.rows"
  check "written on 4 ranks in $from" test $? = 0
done
# What the ranks wrote is one and the same training, but for the order of sums; what they load is held to the bit.
for pair in scramble:block block:cyclic cyclic:scramble; do
  from=${pair%:*} to=${pair#*:}
  for n in 1 3 8 4; do
    run "again-$to-$n" "$n" table.layout="$to" table.init_file="$work/$from.h5" "${still[@]}" &&
      rows "again-$to-$n.h5" | cmp -s - "$from.rows" && [ -s "$from.rows" ]
    check "written on 4 ranks in $from, read on $n in $to" test $? = 0
  done
done

finish
