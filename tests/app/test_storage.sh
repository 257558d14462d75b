#!/usr/bin/env bash
# Tables kept in f16 and bf16: training, its checkpoints and what reads them, on any number of ranks; eval --dtype.
# tests/app/test_storage.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_storage.sh BUILD_FOLDER"
begin "$1"
cd "$work" || exit 1

cat >small.yaml <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [2560, 300, 0], dense_count: 4, rows: [3000, 300, 30], bag_length: [1, 5, 2]}
table: {dim: 8, dtype: f16, optimizer: {name: exact_rowwise_adagrad, lr: 0.1}}
tables:
  - {name: feature_1, dtype: bf16, layout: cyclic, optimizer: {name: exact_adagrad, lr: 0.1}}
  - {name: feature_2, dtype: bf16, rounding: nearest, replicated: true, optimizer: {name: sparse_adam}}
model: {bottom: [16], top: [16]}
train: {global_batch: 128}
YAML
sed -e 's/dtype: b*f16, //' small.yaml >full.yaml

# run NAME RANKS CONFIG ARGUMENT...: trains; its last checkpoint is NAME.h5.
run() {
  local name=$1 count=$2 config=$3
  shift 3
  launch "$count" "$program" train "$config" --set run.dir="$name" --progress none "$@"
  [ "$code" = 0 ] && cp "$(find "$name" -name 'ckpt-*.h5' | sort -V | tail -n 1)" "$name.h5"
}
# same A B: the configs differ, by max_steps, and nothing else does.
same() {
  alone "$program" ckpt diff "$1.h5" "$2.h5"
  printed '^config: ' && ! printed '^(tables|dense|reader)'
}

check "trains" run one 2 small.yaml
check "stops after half of its steps" run half 2 small.yaml --set train.max_steps=10
cp -r half again
check "goes on" run again 2 small.yaml --resume
check "to the bits of a run that never stopped" same one again
check "trains reproducibly on one rank" run alone 1 small.yaml --set train.reproducible=true
check "and on 3 ranks" run three 3 small.yaml --set train.reproducible=true
check "to the same bits" same alone three
alone "$program" ckpt ls one.h5
check "ls: f16" printed '^tables/feature_0/weight f16 3000x8 48000$'
check "ls: bf16" printed '^tables/feature_1/weight bf16 300x8 4800$'
check "ls: states stay f32" printed '^tables/feature_1/state/momentum1 f32 300x8 9600$'
alone "$program" ckpt verify one.h5
check "verify" ended 0
alone "$program" plan small.yaml
check "plan: bytes of rows in f16 with a state of one f32" printed '^feature_0 0 3000 60000$'

# What a model says does not depend on who reads it, and hardly on the type.
launch 2 "$program" eval one.h5 small.yaml
check "eval" printed '^valid auc 0\.'
cp out kept.out
launch 3 "$program" eval one.h5 full.yaml
check "eval with tables in f32: the same numbers" cmp -s out kept.out

# eval --dtype: the numbers, their changes and the bytes, the same on any number of ranks.
# tables BYTES SAVED_BYTES
tables() { printed "^tables [a-z0-9]+ bytes $1 saved_bytes $2\$"; }
for n in 1 2 3 4; do
  launch $n "$program" eval one.h5 small.yaml --dtype int8 --json int8.$n.json
  check "int8 on $n ranks" ended 0
  check "its bytes on $n" tables 53280 0
  cp out int8.$n.out
  launch $n "$program" eval one.h5 small.yaml --dtype int4 --json int4.$n.json
  check "int4's bytes on $n" tables 26640 26640
  cp out int4.$n.out
done
for n in 2 3 4; do
  check "int8 on $n ranks as on one" cmp -s int8.1.out int8.$n.out
  check "int4 on $n ranks as on one" cmp -s int4.1.out int4.$n.out
  check "the same lines of JSON on $n" cmp -s int4.1.json int4.$n.json
done
check "int8 changes little" python3 - <<'PYTHON'
import json
lines = {kind: [json.loads(line) for line in open(f"{kind}.1.json")] for kind in ("int8", "int4")}
change = {kind: next(l for l in found if l["event"] == "change") for kind, found in lines.items()}
told = {kind: next(l for l in found if l["event"] == "eval") for kind, found in lines.items()}
own = {}
for line in open("kept.out"):
    space, name, value = line.split()
    own[name] = float(value)
for kind in change:
    assert change[kind]["dtype"] == kind and change[kind]["space"] == "valid", change
    for name in ("auc", "logloss"):
        assert abs(own[name] + change[kind][name] - told[kind][name]) < 6e-5, (kind, name)
assert abs(change["int8"]["auc"]) < 0.01 and abs(change["int8"]["logloss"]) < 1e-3, change
assert change["int4"]["logloss"] != 0, change
PYTHON
alone "$program" eval one.h5 small.yaml --dtype int4
check "a line for auc's change" printed '^valid auc_change [+-]0\.[0-9]{6}$'
check "and for logloss's" printed '^valid logloss_change [+-]0\.[0-9]{6}$'
alone "$program" eval one.h5 small.yaml --dtype f32
check "f32 takes more" tables 106560 -53280
check "and changes nothing" printed '^valid logloss_change [+-]0\.000000$'
alone "$program" eval one.h5 small.yaml --dtype int2
check "another type" ended 2 "--dtype is f32, f16, bf16, int8 or int4, not 'int2'"
check "f32 trains" run full 2 full.yaml
launch 2 "$program" eval full.h5 small.yaml
check "eval of an f32 checkpoint with tables in 16 bits" printed '^valid auc 0\.'
check "f32 tables start from 16 bits" run widened 2 full.yaml --set train.max_steps=1 --set table.optimizer.lr=0 \
  --set table.init_file="$work/one.h5"
alone "$program" ckpt export widened.h5 widened.npy --table feature_0
alone "$program" ckpt export one.h5 f16.npy --table feature_0
alone "$program" ckpt export one.h5 bf16.npy --table feature_1
check "export of bf16 as .npy, in f32" printed '^tables/feature_1/weight f32 300x8$'
alone "$program" ckpt export one.h5 all.safetensors
check "export of all" ended 0

if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
  alone /usr/bin/python3 "$root/tests/python/check_storage.py" one.h5 "$work"
  check "h5py reads both types, and what was exported is that" ended 0
  for given in given.npy given.safetensors foreign.h5; do
    alone "$program" ckpt import "$given" new.h5 --table t
    check "import of $given" ended 0
    alone "$program" ckpt ls new.h5
    check "$given keeps its type" printed "^tables/t/weight b?f16 4x3 24$"
  done
else
  echo "skipped: /usr/bin/python3 has no h5py: the files' types are not looked at from outside"
fi

# ---- refusals ----
refused() {
  local word=$1
  shift
  alone "$program" train small.yaml --set run.dir=refused "$@"
  ended 2 "$word"
}
check "no such type" refused "table.dtype" --set table.dtype=f8
check "no such rounding" refused "table.rounding" --set table.rounding=up
check "an optimizer that moves untouched rows" refused "moves rows that a batch does not touch" \
  --set table.optimizer.name=adam

finish
