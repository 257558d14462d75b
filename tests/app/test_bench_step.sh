#!/usr/bin/env bash
# `shardbag bench step` as its user meets it. tests/app/test_bench_step.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_bench_step.sh BUILD_FOLDER"
begin "$1"

cat >"$work/small.yaml" <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [1000, 10, 10], dense_count: 4, rows: [500, 300, 40], bag_length: [1, 5, 2], zipf: 1.05}
table: {dim: 8}
model: {bottom: [16], top: [16]}
train: {global_batch: 100}
bench: {steps: 3, rounds: 2, warmup: 1}
YAML

# rows NAME: how often a table has this row, with its five numbers.
rows() { grep -cE "^$1 +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +([0-9.]+|-)\$" "$work/out"; }

for n in 1 2 3; do
  launch $n "$program" bench step "$work/small.yaml" --json "$work/json$n"
  check "on $n ranks" ended 0
  check "the set-up" printed "^# shardbag .* bench step: small, ranks $n, 2 rounds of 3 steps"
  for name in "reader" "exchange: route and send ids" "exchange: combine vectors" "bottom MLP" "interaction" "top MLP" \
    "loss" "exchange: send gradients" "exchange: merge gradients" "update: tables" "update: dense" "the whole step"; do
    check "$name, both ways, on $n" test "$(rows "$name")" = 2
  done
  [ $n = 1 ] || check "waits, on $n" test "$(rows "model: loss")" = 2
  check "the dense part alone, on $n" printed '^# the dense part alone +[0-9.]+ ms +[0-9]+ samples/s; the steps.: [0-9.]+ of it$'
  check "its products, on $n" printed '^# its matrix products alone +[0-9.]+ ms +[0-9]+ samples/s; the dense part.s: [0-9.]+ of it$'
  check "the gain, on $n" printed '^# pipelined / one after the other, by round: min [0-9.]+, median [0-9.]+, max [0-9.]+$'
done

# The rows of one way are of that way, and phases and waits together are no more than the step. Medians of few short
# steps on a busy machine are compared loosely.
json() {
  python3 - "$work/json2" <<'PYTHON'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
for pipeline in True, False:
    mine = [l for l in lines if l["kind"] != "rate" and l["pipeline"] == pipeline]
    assert all(l["event"] == "bench" and l["bench"] == "step" and l["ranks"] == 2 for l in mine)
    whole = [l for l in mine if l["kind"] == "step"]
    assert len(whole) == 1 and whole[0]["ms"] > 0, whole
    assert len([l for l in mine if l["kind"] == "phase"]) > 10
    moved = {l["name"]: l["sent_bytes"] for l in mine if l["kind"] == "transfer"}
    assert sum(moved.values()) > 1000 and moved["model: loss"] == 24, moved
    assert all(l["ms_max"] >= l["ms"] >= 0 and l["hidden_ms_max"] >= l["hidden_ms"] for l in mine)
rates = {l["name"]: l["samples_per_s"] for l in lines if l["kind"] == "rate"}
assert len(rates) == 4 and all(rate > 0 for rate in rates.values()), rates
PYTHON
}
check "--json" json

### batches that are read before: more than an epoch has, and one alone
for n in 1 2; do
  for batches in 12 1; do
    launch $n "$program" bench step "$work/small.yaml" --set bench.batches=$batches
    check "$batches batches, on $n ranks" ended 0
    check "the set-up tells $batches" printed "; $batches batches, read before\$"
    check "steps of $batches batches, on $n" test "$(rows "the whole step")" = 2
  done
done
launch 2 "$program" bench step "$work/small.yaml" --set bench.batches=2 --set data.synthetic.samples='[0, 10, 10]'
check "no samples to read before" ended 1 "no samples"

### what cannot be
launch 2 "$program" bench step "$work/small.yaml" --set bench.steps=0
check "no steps" ended 2 "'bench.steps'"
launch 2 "$program" bench step "$work/small.yaml" --set bench.step=3
check "an unknown key" ended 2 "'bench.step'" "did you mean"
launch 2 "$program" bench step "$work/nowhere.yaml"
check "no config" ended 2 "nowhere.yaml"
alone "$program" bench step
check "no argument" ended 2 "CONFIG"
launch 2 "$program" bench step "$work/small.yaml" --set data.synthetic.samples='[0, 10, 10]'
check "no samples" ended 1 "no samples"
check "leaves nothing" test ! -e runs

finish
