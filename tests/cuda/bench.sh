#!/usr/bin/env bash
# The parts of `shardbag bench` with --device cuda, as tests/cuda executes GPUs, the host's memory and the device's
# apart: nothing is wrong, planted errors are found. No time is a GPU's. tests/cuda/bench.sh BUILD_FOLDER; ends with
# `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/../app/common.bash"
[ $# = 1 ] || fail "usage: bench.sh BUILD_FOLDER"
begin "$1"
program=$(dirname "$program")/tests/cuda/shardbag
[ -x "$program" ] || fail "$program is not there; build its target test_cuda_app first"
export EMU_DEVICES=3 EMU_APART=1
cd "$work" || exit 1

# rows PATTERN COUNT: so many rows of a table begin with the pattern, and end with 0 that are wrong.
rows() { [ "$(grep -cE "^ *$1 .* 0\$" out)" = "$2" ]; }

part=exchange
sizes=(--device cuda --set rows=3001 --set batch=60 --set dim=12 --set tables=2 --set steps=2 --set warmup=1)
for n in 1 3; do
  bench $n "${sizes[@]}" --set length=[1,7] --set zipf=[1.05] --set update=exact_rowwise_adagrad --set work=1
  check "exchange on $n" ended 0
  check "exchange on $n: on GPUs" printed "^# $n ranks, on cuda, 2 steps"
  check "exchange on $n: nothing is wrong" printed '^# wrong: 0$'
done
for way in kind=pools kind=rows kind=dense mode=max dtype=f64 wire=f16; do
  bench 2 "${sizes[@]}" --set length=[7] --set zipf=[0] --set $way
  check "exchange, $way: nothing is wrong" printed '^# wrong: 0$'
done
bench 1 --device cuda --count-only --ranks 8
check "--count-only has no device" ended 2 "--count-only" "--device"

part=pool
sizes=(--device cuda --set rows=1000 --set tables=2 --set batch=64 --set length=[4] --set zipf=[0] --set rounds=2)
for n in 1 2; do
  bench $n "${sizes[@]}" --set lengths=uniform --set mode=sum,max --set optimizer=none,exact_adagrad
  check "pool on $n" ended 0
  check "pool on $n: nothing is wrong" rows '(sum|max)' 4
done
bench 1 "${sizes[@]}" --set spoil=true
check "pool: a planted error" ended 1 "wrong"

part=memory
sizes=(--device cuda --set mib=1 --set lookups=501 --set rounds=2 --set dim=[16,17])
for n in 1 2; do
  bench $n "${sizes[@]}"
  check "memory on $n" ended 0
  check "memory on $n: nothing is wrong" rows '(copy|gather\+out|scatter)' 9
done
bench 1 "${sizes[@]}" --set spoil=true
check "memory: planted errors" ended 1 "9 of the words"

part=checkpoint
bench 2 --device cuda --set rows=20011 --set dim=8 --set rounds=2 --set rest=0
check "checkpoint" ended 0
check "checkpoint: on GPUs" printed ', on cuda; files in'
check "checkpoint: nothing is wrong" rows 'load' 1
EMU_DEVICES=1
bench 2 --device cuda --set rows=2001 --set dim=8 --set rounds=1 --set rest=0
check "fewer GPUs than ranks" ended 1 "GPU" "2 ranks"
finish
