#!/usr/bin/env bash
# `shardbag report`: what it draws of runs, and what it says of files that are none. tests/app/test_report.sh
# BUILD_FOLDER; ends with `N passed, N failed`. Where gnuplot is missing only that is tested which needs none.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_report.sh BUILD_FOLDER"
begin "$1"

# log NAME RANKS: a run of 40 steps, behind one that was begun in the same file and is forgotten.
log() {
  printf '{"event":"start","name":"%s","from":0,"ranks":%d,"steps":40}\n' "$1" "$2"
  printf '{"event":"train","step":7,"loss":77.5,"lr":0.1,"samples_per_s":9}\n'
  printf '{"event":"start","name":"%s","from":0,"ranks":%d,"steps":40}\n' "$1" "$2"
  for step in 10 20 30 40; do
    printf '{"event":"train","step":%d,"loss":0.%d,"lr":0.1,"samples_per_s":1000,"slowest_ms":3,"median_ms":2,' $step $((70 - step))
    printf '"owned_rows_max":3,"owned_rows_median":2,"sent_bytes_max":5,"sent_bytes_mean":5}\n'
  done
  printf '{"event":"eval","space":"test","step":40,"samples":9,"auc":0.8125,"recall@20":null,"hits":0.25}\n'
  printf '{"event":"end","step":40,"seconds":1.5,"reason":"done","phases_ms":{"top MLP":0.5,"wait: ids":0.25}}\n'
  printf '{"event":"train","step":50,"lo' # a line that was cut off
}
mkdir "$work/a"
log one 2 >"$work/a/metrics.jsonl"
log one 1 | sed 's/$/\r/' >"$work/b.json"
printf '{"event":"bench","bench":"step","ranks":2,"pipeline":true,"kind":"phase","name":"top MLP","ms":2.5}\n' >"$work/step.json"

# broken LINE COLUMN WORD: $work/bad.json ends with this.
broken() {
  alone "$program" report "$work/bad.json" --output "$work/none"
  ended 1 "bad.json:$1:$2: " "$3"
}
first=$(head -n 1 "$work/b.json" | tr -d '\r')
printf '%s\n{"event":"train",}\n' "$first" >"$work/bad.json"
check "no JSON" broken 2 18 "object"
printf '%s\n{"event":"train"\n{"event":"end"}\n' "$first" >"$work/bad.json"
check "a short line" broken 2 18 "too early"
printf '%s\n7\n' "$first" >"$work/bad.json"
check "no object" broken 2 1 "no object"
printf '%s\n{} {}\n' "$first" >"$work/bad.json"
check "two objects" broken 2 4 "unexpected"
printf '%s\n{"event":"tr\0ain"}\n' "$first" >"$work/bad.json"
check "a NUL byte" broken 2 13 "NUL byte"
printf '%s\n' "$first" >"$work/bad.json"
alone "$program" report "$work/bad.json"
check "nothing to draw" ended 1 bad.json "nothing to draw"
alone "$program" report "$work/gone.json"
check "no such file" ended 1 gone.json
alone "$program" report "$work"
check "a folder without a run" ended 1 metrics.jsonl
alone "$program" report
check "no run" ended 2 "RUN ..."
alone "$program" report "$work/b.json" --output "$work/b.json/x"
check "no folder" ended 1 b.json/x
alone env PATH= "$program" report "$work/b.json" --output "$work/none"
check "no gnuplot" ended 1 "gnuplot is not found" "gnuplot-nox"

if command -v gnuplot >/dev/null; then
  alone "$program" report "$work/a" "$work/b.json" "$work/step.json" --output "$work/report"
  check "draws" ended 0
  check "says where" printed "report/index.html: 3 runs, 7 charts"
  whole() {
    local name
    for name in loss throughput learning_rate imbalance auc hits phases; do
      [ -s "$work/report/$name.gp" ] && [ -s "$work/report/$name.svg" ] && [ -s "$work/report/$name.png" ] || return 1
      grep -q "src=\"$name.svg\"" "$work/report/index.html" || return 1
    done
  }
  check "scripts, SVG, PNG and a page" whole
  check "a run that was begun again is forgotten" [ "$(grep -c '^7 77.5' "$work/report/loss.gp")" = 0 ]
  check "every point" [ "$(grep -c '^[1-4]0 0\.' "$work/report/loss.gp")" = 8 ]
  check "two runs of one name" grep -qF 'title "one (2)"' "$work/report/loss.gp"
  check "imbalance of more ranks than one" [ "$(grep -c 'EOD$' "$work/report/imbalance.gp")" = 6 ]
  check "the imbalance" grep -qx '10 1.5' "$work/report/imbalance.gp"
  check "phases" grep -qx "$(printf 'top MLP\t0.5\t0.5\t2.5')" "$work/report/phases.gp"
  check "last metrics" grep -qF 'test auc 0.8125' "$work/report/index.html"
  check "a curve" grep -q '<path' "$work/report/loss.svg"
  check "a PNG" [ "$(head -c 4 "$work/report/loss.png" | tail -c 3)" = PNG ]
  check "a script draws again" sh -c "cd '$work/report' && rm loss.svg loss.png && gnuplot loss.gp && [ -s loss.svg ] && [ -s loss.png ]"
  check "nothing else is left" [ ! -e "$work/report/gnuplot.err" ]
fi
finish
