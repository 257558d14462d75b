#!/usr/bin/env bash
# Checkpoints under faults: every file call fails in turn, a disk fills, and processes are killed while they commit. The
# last complete checkpoint must open each time. tests/fault/test_fault.sh BUILD_FOLDER [KILLS]; ends with `N passed, N failed`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$here/../../launch/common.sh"
[ $# -ge 1 ] || fail "usage: test_fault.sh BUILD_FOLDER [KILLS]"
build=$(cd "$1" && pwd)/tests
kills=${2:-20}
[ -x "$build/fault" ] || fail "$build/fault is not there; build it first"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

count() {
  if [ "$1" = 0 ]; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "FAIL  $2"
    tail -n 10 "$work/log" | sed 's/^/      | /'
  fi
}

### a fault at every call
for n in 1 2 3; do
  mkdir "$work/io$n"
  timeout -k 5 60 mpirun --oversubscribe --bind-to none -n $n env LD_PRELOAD="$build/fault_shim.so" \
    "$build/fault" io "$work/io$n" >"$work/log" 2>&1 </dev/null
  code=$?
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$work/log" | tail -n 1)
  echo "every call on $n ranks: ${line:-nothing was counted}"
  [ "${line%% *}" -gt 300 ] 2>/dev/null || code=1
  count $code "a fault at every call, $n ranks"
done

### a disk that fills while a run writes
timeout -k 5 200 "$here/full_disk.sh" "$1" >"$work/log" 2>&1 </dev/null
code=$?
grep -E '^(skipped|FAIL)' "$work/log"
line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$work/log" | tail -n 1)
echo "a full disk: ${line:-nothing was counted}"
count $code "a full disk"

# generation FILE: which one it is, or nothing.
generation() { "$build/fault" check "$1" 2>>"$work/log" | sed -n 's/^generation //p'; }

wait_for_file() {
  local tries
  for tries in $(seq 500); do
    [ -e "$1" ] && return 0
    sleep 0.02
  done
  echo "no checkpoint after $tries tries" >>"$work/log"
  return 1
}

### kill -9 at random moments of endless commits; the same file goes on from one kill to the next
RANDOM=4
nap() { sleep "0.$(printf %03d $((RANDOM % 150)))"; }
file=$work/kill/file.h5
mkdir "$work/kill"
last=
for i in $(seq "$kills"); do
  : >"$work/log"
  if [ $((i % 4)) = 0 ]; then
    # Under mpirun: one rank, or both.
    # shellcheck disable=SC2016  # the ranks' shell
    mpirun --oversubscribe --bind-to none -n 2 sh -c 'echo $$ >"$2.$OMPI_COMM_WORLD_RANK"; exec "$1" loop "$3"' - \
      "$build/fault" "$work/pid" "$file" >>"$work/log" 2>&1 </dev/null &
    child=$!
    wait_for_file "$work/pid.1"
    sleep 0.6 # MPI starts
    nap
    victims=("$(cat "$work/pid.$((i / 4 % 2))")")
    [ $((i % 8)) = 0 ] && victims=("$(cat "$work/pid.0")" "$(cat "$work/pid.1")")
  else
    "$build/fault" loop "$file" >>"$work/log" 2>&1 </dev/null &
    child=$!
    wait_for_file "$file"
    nap
    victims=("$child")
  fi
  kill -9 "${victims[@]}" 2>/dev/null
  wait "$child" 2>/dev/null
  rm -f "$work"/pid.*
  found=$(generation "$file")
  last="$last $found"
  count "$([ -n "$found" ]; echo $?)" "kill $i: no complete checkpoint is left"
done
echo "generations that $kills kills left:$last"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
