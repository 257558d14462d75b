#!/usr/bin/env bash
# Fuzzes the gate in front of libhdf5: tests/fault/fuzz.sh [SECONDS], 600 by default. Needs clang-14 and libclang-rt-14-dev;
# seeds are real small checkpoints. Ends with `1 passed, 0 failed`, or with what libFuzzer found.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=${1:-600}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
cp "$root"/tests/data/checkpoint-v*.h5 "$work/corpus"

flags=(-std=c11 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer -I"$root/src" -I"$root/include"
  "-fsanitize=fuzzer,address,undefined" -fno-sanitize-recover=all)
sources=("$root"/src/checkpoint/{gate,trailer,disk,checksum}.c "$root"/src/base/{mem,status}.c "$root/tests/fault/fuzz_gate.c")
if ! printf 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d == 0 && n; }' |
  clang-14 -fsanitize=fuzzer -x c - -o "$work/probe" 2>/dev/null; then
  echo "skipped: clang-14 with libFuzzer is not here (Debian: clang-14 libclang-rt-14-dev)"
  exit 0
fi
clang-14 "${flags[@]}" "${sources[@]}" -o "$work/fuzz" || exit 1
cd "$work" || exit 1
if "$work/fuzz" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 corpus \
  >log 2>&1; then
  grep -E '^stat::number_of_executed_units|^#.*DONE' log
  echo "1 passed, 0 failed"
else
  tail -n 40 log
  echo "0 passed, 1 failed"
  exit 1
fi
