#!/usr/bin/env bash
# launch/bench.sh at its smallest: every part runs, and the page shows it. tests/app/test_bench_report.sh BUILD_FOLDER;
# ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_bench_report.sh BUILD_FOLDER"
begin "$1"
if ! command -v gnuplot >/dev/null; then
  echo "skipped: launch/bench.sh: gnuplot is not there"
  exit 0
fi

SHARDBAG=$program alone "$root/launch/bench.sh" --smoke "$work/page"
check "all parts" ended 0
check "says where the page is" printed "$work/page/index.html"
for name in memory pool train exchange step checkpoint; do
  check "$name: its table is on the page" grep -qF "$(grep -m 1 -v '^#' "$work/page/$name.txt")" "$work/page/index.html"
  check "$name: lines of JSON" python3 -c 'import json, sys; assert [json.loads(l) for l in open(sys.argv[1])]' \
    "$work/page/$name.json"
  check "$name: a drawing on the page" grep -q "src=\"$name.svg\"" "$work/page/index.html"
  check "$name: as SVG and PNG" test -s "$work/page/$name.svg" -a -s "$work/page/$name.png"
done
check "no scratch is left" test -z "$(find "$work/page" -mindepth 1 -type d)"

### what cannot be
alone "$root/launch/bench.sh" --fast
check "an unknown option" ended 1 "usage"
SHARDBAG=$work/nowhere alone "$root/launch/bench.sh" "$work/other"
check "no program" ended 1 "is not there; build it first"
SHARDBAG=/bin/false alone "$root/launch/bench.sh" --smoke "$work/other"
check "parts that fail" test "$code" = 1

finish
