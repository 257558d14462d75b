#!/usr/bin/env bash
# Fuzzes what reads bytes of others: tests/fault/fuzz.sh [SECONDS [gate|request]], 600 by default: the gate in front of
# libhdf5, whose seeds are real small checkpoints, or the parser of inference requests. Needs clang-14 and
# libclang-rt-14-dev. Ends with `1 passed, 0 failed`, or with what libFuzzer found.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=${1:-600}
target=${2:-gate}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"

# seed FILE FIRST_BYTES JSON [BINARY]: a request, as fuzz_request.c takes it.
seed() {
  printf '%b%s%b' "$2" "$3" "${4-}" >"$work/corpus/$1"
}

base=("$root"/src/base/{mem,status}.c)
case $target in
gate)
  cp "$root"/tests/data/checkpoint-v*.h5 "$work/corpus"
  sources=("$root"/src/checkpoint/{gate,trailer,disk,checksum}.c "${base[@]}" "$root/tests/fault/fuzz_gate.c")
  ;;
request)
  tensor() { printf '{"name":"%s","datatype":"%s","shape":%s,%s}' "$@"; }
  dense=$(tensor dense FP32 '[2,2]' '"data":[0.5,1,-2e0,3]')
  tags=$(tensor tags.values INT32 '[3]' '"data":[4,0,1]'),$(tensor tags.offsets INT64 '[3]' '"data":[0,0,3]')
  seed json '\x00\x00' "{\"id\":\"\\u0061\",\"inputs\":[$dense,$(tensor user INT64 '[2,1]' '"data":[[3],[9]]'),$tags]}"
  seed lengths '\x02\x00' "{\"inputs\":[$(tensor user INT64 '[2]' '"data":[3,9]'),$(tensor tags.values INT64 '[2]' '"data":[1,2]'),$(
    tensor tags.lengths INT64 '[2]' '"data":[2,0]'),$(tensor tags.weights FP64 '[2]' '"data":[1,0.5]')],\"outputs\":[{\"name\":\"tags\"}]}"
  seed binary '\x01\x11' "{\"inputs\":[$(tensor user INT64 '[2]' '"parameters":{"binary_data_size":16}')],\"parameters\":{\"binary_data_output\":true}}" \
    '\x03\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0'
  sources=("$root"/src/serve/{cursor,scratch,buffer,tensor,request,reply}.c "${base[@]}" "$root/tests/fault/fuzz_request.c")
  ;;
*)
  echo "usage: fuzz.sh [SECONDS [gate|request]]" >&2
  exit 2
  ;;
esac

flags=(-std=c11 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer -I"$root/src" -I"$root/include"
  "-fsanitize=fuzzer,address,undefined" -fno-sanitize-recover=all)
if ! printf 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d == 0 && n; }' |
  clang-14 -fsanitize=fuzzer -x c - -o "$work/probe" 2>/dev/null; then
  echo "skipped: clang-14 with libFuzzer is not here (Debian: clang-14 libclang-rt-14-dev)"
  exit 0
fi
clang-14 "${flags[@]}" "${sources[@]}" -lm -o "$work/fuzz" || exit 1
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
