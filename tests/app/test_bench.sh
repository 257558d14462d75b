#!/usr/bin/env bash
# `shardbag bench` as its user meets it. tests/app/test_bench.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_bench.sh BUILD_FOLDER"
begin "$1"
part=checkpoint
cd "$work" || exit 1

# row CASE WRONG: its ten numbers and the count of wrong rows.
row() { grep -qE "^ +$1( +[0-9.]+){10} +$2\$" out; }

# json LINES: the file has so many, each an object; the last one is of a load in which nothing was wrong.
json() {
  python3 - "$1" <<'PYTHON'
import json, sys
lines = [json.loads(line) for line in open("bench.json")]
assert len(lines) == int(sys.argv[1]), len(lines)
for line in lines:
    assert line["event"] == "bench" and line["bench"] == "checkpoint", line
    assert len(line["seconds"]) == len(line["raw_seconds"]) == 2, line
    assert line["gb_per_s"] > 0 and line["raw_gb_per_s"] > 0 and line["ratio"] > 0, line
assert lines[-1]["case"] == "load" and lines[-1]["wrong"] == 0, lines[-1]
PYTHON
}

mkdir disk
small=(--set folder=disk --set rows=20011 --set dim=24 --set rounds=2 --set rest=0)
for n in 1 2 3; do
  bench $n "${small[@]}" --json bench.json
  check "on $n ranks" ended 0
  check "the ranks, on $n" grep -q "^# shardbag .*: ranks $n, rounds 2\$" out
  check "saves on $n" row save N/A
  check "loads on $n, and nothing is wrong" row load 0
  check "the files are gone, on $n" test -z "$(ls disk)"
done
check "--json" json 6

### other states and layouts; saved on some ranks, loaded on others
bench 3 "${small[@]}" --set optimizer=exact_rowwise_adagrad --set layout=cyclic --set part=save
check "only saves" ended 0
check "one row" test "$(grep -vc '^#' out)" = 1
check "what is left" test "$(ls disk)" = shardbag-bench.h5
bench 2 "${small[@]}" --set optimizer=exact_rowwise_adagrad --set layout=scramble --set part=load
check "only loads, on other ranks" ended 0
check "nothing is wrong then" row load 0
bench 1 "${small[@]}" --set optimizer=sgd --set rows=20012 --set part=load
check "another table" ended 1 "shardbag-bench.h5" "20011" "20012"
rm -f disk/*

### rows and regions that fit no page, written past the page cache where the disk allows it
odd=(--set folder=disk --set rows=150011 --set dim=33 --set rounds=1 --set rest=0)
for n in 1 2 3 4; do
  bench $n "${odd[@]}" --set part=save
  check "saves odd rows on $n" ended 0
  alone "$program" ckpt verify disk/shardbag-bench.h5
  check "whose checksums match, of $n" ended 0
  bench $((5 - n)) "${odd[@]}" --set part=load
  check "and which are right on $((5 - n))" row load 0
  rm -f disk/*
done

### what cannot be
bench 1 --set row=3
check "an unknown key" ended 2 "'row'" "did you mean 'rows'?"
bench 2 --set rows=0
check "no rows" ended 2 "'rows'"
bench 1 --set optimizer=adagard
check "an unknown optimizer" ended 2 "'adagard'"
bench 1 --set layout=diagonal
check "an unknown layout" ended 2 "'layout'"
bench 1 --rounds 3
check "an unknown option" ended 2 "--rounds"
bench 1 stray
check "a stray word" ended 2 "stray"
bench 2 --set folder=disk --set rows=900000000000
check "a disk too small" ended 1 "folder 'disk' has" "MB are needed"
bench 2 --set folder=nowhere
check "no such folder" ended 1 "nowhere"
check "nothing is left" test -z "$(ls disk)"
"$program" bench pecking >out 2>err
code=$?
cp err said
check "an unknown part" ended 2 "there is no 'pecking'"
bench 1 --help-config
check "help names the keys" grep -q rounds out

finish
