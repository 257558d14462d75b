#!/usr/bin/env bash
# `shardbag bench exchange` as its user meets it, and that the exchange sends no more than it should: near the minimum
# cover, and never more bytes than the best pure way. tests/app/test_bench_exchange.sh BUILD_FOLDER; ends with
# `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_bench_exchange.sh BUILD_FOLDER"
begin "$1"
part=exchange
cd "$work" || exit 1

# lines CONDITION: the file of JSON lines has some, and CONDITION holds for each, a Python expression of l.
lines() {
  python3 - "$1" <<'PYTHON'
import json, sys
found = [json.loads(line) for line in open("bench.json")]
assert found
for l in found:
    assert l["event"] == "bench" and l["bench"] == "exchange", l
    assert eval(sys.argv[1]), l
PYTHON
}

# cases COUNT: rows of the table of vectors.
cases() { [ "$(grep -cE '^ +[0-9]+ +[0-9.]+ +[0-9]+ ' out)" = "$1" ]; }

### counted: 8 and 64 ranks at a quarter of the size of the README's table
size=(--set rows=250000 --set batch=512 --set requesters=4)
for ranks in 8 64; do
  rm -f bench.json
  bench 1 --count-only --ranks $ranks --cover "${size[@]}" --json bench.json
  check "counted for $ranks ranks" ended 0
  check "within, $ranks ranks" printed '^# within: yes$'
  check "six cases, $ranks ranks" cases 6
  check "near the cover, $ranks ranks" lines 'l["cover"] <= l["vectors"] <= 1.10 * l["cover"]'
  check "no more bytes than any pure way, $ranks ranks" lines \
    'l["id_bytes"] + l["forward_bytes"] + l["backward_bytes"] <= min(l[w + "_bytes"] for w in ("pools", "rows", "dense"))'
  check "the yardsticks, $ranks ranks" lines \
    'l["dense_pools"] == l["ranks"] * 512 >= l["sparse_pools"] and l["cover"] <= l["better_per_pair"] <= min(l["sparse_pools"], l["distinct_rows"])'
  check "one index a bag: a vector a row, $ranks ranks" lines \
    'l["length"] > 1 or l["vectors"] == l["cover"] == l["distinct_rows"] <= l["sparse_pools"] == 512'
  check "as many ranks, $ranks" lines "l['ranks'] == $ranks and l['counted_only'] and l['batches'] == 4"
done
for mode in mean max; do
  bench 1 --count-only --ranks 16 --cover "${size[@]}" --set "mode=$mode" --set tables=2 --set dim=16
  check "mode $mode is within" printed '^# within: yes$'
done
bench 1 --count-only --ranks 1024 --set batch=64 --set length=[10] --set zipf=[1.05] --set requesters=2
check "1,024 ranks" ended 0
check "one case" cases 1
rm -f bench.json
bench 1 --count-only --ranks 8 "${size[@]}" --set kind=pools --json bench.json
check "pools: a vector a bag that touches an owner" lines 'l["vectors"] == l["sparse_pools"] and "cover" not in l'
rm -f bench.json
bench 1 --count-only --ranks 8 "${size[@]}" --set kind=rows --json bench.json
check "rows: a vector a distinct row" lines 'l["vectors"] == l["distinct_rows"]'

### sent: nothing is wrong, and the bytes are those that were counted
sent='all(abs(l[leg + "_bytes_sent"] - l[leg + "_bytes"]) < 1 for leg in ("id", "forward", "backward"))'
small=(--set rows=3001 --set batch=60 --set dim=12 --set tables=2 --set length=[1,7] --set steps=3 --set warmup=1)
for n in 1 2 3; do
  rm -f bench.json
  bench $n "${small[@]}" --cover --json bench.json
  check "on $n ranks" ended 0
  check "nothing is wrong on $n" printed '^# wrong: 0$'
  check "sent as counted, on $n" lines "$sent"
  check "times on $n" lines 'l["ms"]["median"] > 0 and l["wrong"] == 0 and ("raw_ms" in l) == (l["ranks"] > 1)'
done
for way in kind=pools kind=rows layout=cyclic layout=scramble mode=mean mode=max dtype=f64 wire=f16 wire=bf16 chunk=256 \
  scatter=false; do
  rm -f bench.json
  bench 3 "${small[@]}" --set $way --json bench.json
  check "$way: nothing is wrong" printed '^# wrong: 0$'
  check "$way: sent as counted" lines "$sent"
done
bench 3 "${small[@]}" --set kind=dense
check "kind=dense: nothing is wrong" printed '^# wrong: 0$'
rm -f bench.json
bench 2 "${small[@]}" --set update=exact_rowwise_adagrad --set work=1 --json bench.json
check "updates and work: nothing is wrong" printed '^# wrong: 0$'
check "updates and work: their numbers" lines 'l["update_ms"]["median"] > 0 and 0 <= l["hidden_part"] <= 1'
rm -f bench.json
bench 2 "${small[@]}" --set plain=false --set verify=false --json bench.json
check "the exchange alone" lines '"raw_ms" not in l and "wrong" not in l'

### what cannot be
bench 1 --ranks 8
check "ranks that are not launched" ended 2 --ranks --count-only
bench 1 --count-only
check "no number of ranks" ended 2 --ranks
bench 1 --count-only --ranks 1025
check "too many ranks" ended 2 1024
bench 2 --count-only --ranks 8
check "counting under mpirun" ended 2 "without mpirun"
bench 2 --set lenght=[1]
check "an unknown key" ended 2 "'lenght'" "did you mean 'length'"
bench 2 --set length=[]
check "no case" ended 2 "length"
bench 2 --set dtype=f64 --set wire=f16
check "16 bits of float64" ended 2 "'wire'"
bench 2 --set update=adagard
check "an unknown optimizer" ended 2 adagard
bench 2 "${small[@]}" --json nowhere/bench.json
check "no such folder" ended 1 nowhere/bench.json

finish
