#!/usr/bin/env bash
# `shardbag bench pool` as its user meets it. tests/app/test_bench_pool.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_bench_pool.sh BUILD_FOLDER"
begin "$1"
cd "$work" || exit 1

# bench RANKS WORD...: see launch.
bench() {
  local run=(launch "$1")
  [ "$1" != 1 ] || run=(alone)
  shift
  rm -f bench.json
  "${run[@]}" "$program" bench pool --json bench.json "$@"
}

# lines COUNT CONDITION: the file of JSON lines has so many, and CONDITION holds for each, a Python expression of l.
lines() {
  python3 - "$1" "$2" <<'PYTHON'
import json, sys
found = [json.loads(line) for line in open("bench.json")]
assert len(found) == int(sys.argv[1]), len(found)
for l in found:
    assert l["event"] == "bench" and l["bench"] == "pool", l
    assert l["forward_ms"]["median"] > 0 and l["forward_gb_per_s"] > 0, l
    assert ("step_ms" in l) == ("update_ms" in l) == (l["optimizer"] != "-"), l
    assert eval(sys.argv[2]), l
PYTHON
}

small=(--set rows=2003 --set tables=3 --set batch=70 --set rounds=2 --set batches=2 --set threads=2)
for n in 1 2 3; do
  bench $n "${small[@]}" --set dim=[8,17] --set length=[1,7] --set mode=sum,mean,max
  check "forward on $n ranks" ended 0
  check "the set-up, on $n" printed "^# shardbag .* bench pool: ranks $n, 2 threads a rank, cpu, 2 rounds of 2 batches"
  check "24 rows, on $n" test "$(grep -cE '^ +(sum|mean|max) +full +-( +[0-9.]+){6} +- +- +- +- +[0-9.]+ +0$' out)" = 24
  check "24 lines, on $n" lines 24 \
    "l['wrong'] == 0 and l['ranks'] == $n and l['threads'] == 2 and l['limit_ms']['median'] > 0 and 0 < l['forward_of_limit']"
  bench $n "${small[@]}" --set dim=[16] --set length=[5] --set lengths=uniform --set zipf=[1.05] \
    --set optimizer=sgd,exact_rowwise_adagrad,adam,sparse_adam --set mode=sum,mean
  check "steps on $n ranks" ended 0
  check "8 lines, on $n" lines 8 "l['wrong'] == 0 and l['update_of_limit'] > 0 and l['step_ms']['min'] > 0"
  check "the bags are of that distribution, on $n" lines 8 "l['lengths'] == 'uniform'"
done
bench 2 "${small[@]}" --set dim=[9,16] --set length=[5] --set storage=f16,bf16 --set optimizer=none,exact_adagrad
check "16 bits" ended 0
check "of both kinds" lines 16 "l['wrong'] == 0 and l['storage'] in ('f16', 'bf16')"
bench 2 "${small[@]}" --set dim=[9,16] --set length=[5] --set storage=int8,int4 --set mode=sum,mean,max
check "8 and 4 bits" ended 0
check "of all modes" lines 24 "l['wrong'] == 0 and l['storage'] in ('int8', 'int4') and l['limit_ms']['median'] > 0"
bench 1 "${small[@]}" --set length=[3] --set zipf=[0] --set dim=[8] --set storage=int4 --set spoil=true
check "a spoilt row of 4 bits" lines 1 'l["wrong"] >= 1'
bench 2 "${small[@]}" --set length=[9] --set lengths=zipf --set layout=cyclic --set mode=max --set optimizer=exact_sgd \
  --set limit=false
check "no limit" lines 2 "'limit_ms' not in l and l['wrong'] == 0"
bench 1 "${small[@]}" --set length=[4] --set verify=false --set scatter=false
check "not verified" lines 2 "'wrong' not in l"

### a planted error is found: in the bag, and in the row that it updates
bench 2 "${small[@]}" --set length=[3] --set zipf=[0] --set spoil=true
check "a spoilt bag" ended 1 "of the bags and rows that were computed again are wrong"
check "is counted" lines 1 'l["wrong"] >= 1'
bench 1 "${small[@]}" --set length=[3] --set zipf=[0] --set dim=[8] --set mode=max --set spoil=true
check "a spoilt maximum" lines 1 'l["wrong"] >= 1'

### what cannot be
bench 1 --set lenght=[3]
check "an unknown key" ended 2 "'lenght'" "did you mean 'length'?"
bench 1 --set length=[]
check "no case" ended 2 "'length'"
bench 1 --set mode=sum,median
check "an unknown mode" ended 2 "'mode'" "sum,median"
bench 2 --set optimizer=none,adagard
check "an unknown optimizer" ended 2 "'adagard'"
bench 1 --set storage=int2
check "an unknown storage" ended 2 "'storage'" "int2" "full, f16, bf16, int8 or int4"
bench 1 --set storage=f16,int4 --set optimizer=none,exact_sgd
check "int4 is not trained" ended 2 "'optimizer'" "tables in int8 and int4 are not trained"
bench 1 --set lengths=gauss
check "an unknown distribution" ended 2 "'lengths'"
bench 1 --set lengths=zipf --set length=[2000]
check "bags too long for their distribution" ended 2 "1000"
bench 1 --set device=tpu
check "an unknown device" ended 2 "'device'"
bench 1 "${small[@]}" --json nowhere/bench.json
check "no such folder" ended 1 nowhere/bench.json
bench 1 --help-config
check "help names the keys" grep -q batches out

finish
