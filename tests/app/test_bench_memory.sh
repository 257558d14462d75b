#!/usr/bin/env bash
# `shardbag bench memory` as its user meets it. tests/app/test_bench_memory.sh BUILD_FOLDER; ends with
# `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_bench_memory.sh BUILD_FOLDER"
begin "$1"
part=memory
cd "$work" || exit 1

# lines COUNT CONDITION: the file of JSON lines has so many, and CONDITION holds for each, a Python expression of l.
lines() {
  python3 - "$1" "$2" <<'PYTHON'
import json, sys
found = [json.loads(line) for line in open("bench.json")]
assert len(found) == int(sys.argv[1]), len(found)
for l in found:
    assert l["event"] == "bench" and l["bench"] == "memory", l
    assert l["ms"]["min"] <= l["ms"]["median"] <= l["ms"]["max"] and l["gb_per_s"]["median"] > 0, l
    assert eval(sys.argv[2]), l
PYTHON
}

small=(--set mib=2 --set lookups=3001 --set rounds=2)
for n in 1 2; do
  rm -f bench.json
  bench $n "${small[@]}" --set dim=[16,17,64] --set threads=[1,3] --json bench.json
  check "on $n ranks" ended 0
  check "the set-up, on $n" printed "^# shardbag .* bench memory: ranks $n, rounds 2, loops in (avx512|avx2|scalar)\$"
  check "42 rows, on $n" test "$(grep -cE '^ +[a-z+]+( +[0-9.-]+){9} +0$' out)" = 42
  check "42 lines, on $n" lines 42 "l['wrong'] == 0 and l['ranks'] == $n and l['threads'] in (1, 3)"
done
rm -f bench.json
bench 1 "${small[@]}" --set dim=[40] --set zipf=[1.2] --set scatter=false --set threads=[1,1,1] --json bench.json
check "a number of threads counts once" lines 6 'l.get("zipf", 1.2) == 1.2 and l.get("dim", 40) == 40'

### a planted error is found
rm -f bench.json
bench 1 "${small[@]}" --set dim=[16] --set zipf=[0] --set threads=[2] --set spoil=true --json bench.json
check "spoilt" ended 1 "of the words that were computed again are wrong"
check "each case is" lines 6 'l["wrong"] == 1'

### what cannot be
bench 1 --set dims=[3]
check "an unknown key" ended 2 "'dims'" "did you mean 'dim'?"
bench 1 --set dim=[]
check "no case" ended 2 "'dim'"
bench 2 --set mib=0
check "no memory" ended 2 "'mib'"
bench 1 --set mib=1 --set dim=[65536] --set lookups=1
check "rows of 256 KiB fit" ended 0
bench 1 --set mib=900000000
check "too much memory" ended 1 "cannot allocate"
bench 1 --rounds 3
check "an unknown option" ended 2 "--rounds"
bench 2 "${small[@]}" --json nowhere/bench.json
check "no such folder" ended 1 nowhere/bench.json
bench 1 --help-config
check "help names the keys" grep -q lookups out

finish
