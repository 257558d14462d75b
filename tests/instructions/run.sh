#!/usr/bin/env bash
# Counts the instructions of the CPU's kernels on fixed inputs with callgrind, and fails where one takes over 5 % more
# than counts.txt says: tests/instructions/run.sh BUILD_FOLDER [--write]. --write makes counts.txt anew, after a change
# that is meant. Counts are a compiler's: with another one, without valgrind, or in a build that is not optimised, it
# says so and skips (exit 77). Callgrind knows no AVX-512. Ends with `N passed, N failed`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# = 0 ] || [ $# -gt 2 ] || [ "${2---write}" != --write ]; then
  echo "usage: run.sh BUILD_FOLDER [--write]" >&2
  exit 1
fi
program=$1/tests/instructions
file=$here/counts.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() {
  echo "skipped: tests/instructions: $*"
  exit 77
}

[ -x "$program" ] || skip "$program is not there"
command -v valgrind >/dev/null || skip "valgrind is not there"
compiler=$("$program" compiler)
case $compiler in *unoptimized) skip "the build is not an optimised one" ;; esac
if [ $# = 1 ] && ! grep -qxF "# $compiler" "$file"; then
  skip "compiled by $compiler, and counts.txt by $(sed -n 's/^# \(gcc\|clang\)/\1/p' "$file")"
fi

if ! OMP_NUM_THREADS=1 valgrind --tool=callgrind --callgrind-out-file="$work/out" "$program" >"$work/log" 2>&1; then
  cat "$work/log"
  echo "0 passed, 1 failed"
  exit 1
fi
callgrind_annotate --inclusive=yes --threshold=100 "$work/out" 2>"$work/log" |
  sed -nE 's/^ *([0-9,]+) .*[:*]case_([a-z0-9_]+)( .*)?$/\2 \1/p' | tr -d , | sort -u >"$work/counts"
if [ ! -s "$work/counts" ]; then
  cat "$work/log"
  echo "0 passed, 1 failed"
  exit 1
fi
if [ $# = 2 ]; then
  {
    echo "# Instructions of each case of main.c, made by run.sh BUILD_FOLDER --write."
    echo "# $compiler"
    cat "$work/counts"
  } >"$file"
  echo "$file: $(wc -l <"$work/counts") cases"
  exit 0
fi
awk -v limit=1.05 '
  FNR == NR { if ($1 != "#") was[$1] = $2; next }
  { now[$1] = $2 }
  END {
    for (name in was)
      if (!(name in now)) { if (name ~ /_avx2$/) absent++; else { print "FAIL  " name ": not run"; failed++ } }
      else if (now[name] > limit * was[name]) {
        printf "FAIL  %s: %d instructions, counts.txt has %d (%+.1f %%)\n", name, now[name], was[name], 100 * (now[name] / was[name] - 1)
        failed++
      } else passed++
    for (name in now) if (!(name in was)) { print "FAIL  " name ": not in counts.txt; run.sh BUILD_FOLDER --write adds it"; failed++ }
    if (absent) print "skipped: " absent " cases of AVX2, which this machine lacks"
    printf "%d passed, %d failed\n", passed, failed
    exit failed > 0
  }' "$file" "$work/counts"
