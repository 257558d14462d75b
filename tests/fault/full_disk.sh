#!/usr/bin/env bash
# A disk that fills while a run writes its second checkpoint: tests/fault/full_disk.sh BUILD_FOLDER; ends with
# `N passed, N failed`. The disk is a tmpfs in a mount namespace of the script's own, which needs no privileges where
# user namespaces are allowed; elsewhere the test is skipped.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/app/common.bash
. "$here/../app/common.bash"
[ $# = 1 ] || fail "usage: full_disk.sh BUILD_FOLDER"
if [ -z "${FULL_DISK_INSIDE-}" ]; then
  probe='mount -t tmpfs -o size=1m none /mnt'
  for way in "unshare -m" "unshare -rm"; do
    # shellcheck disable=SC2086  # words
    FULL_DISK_INSIDE=1 $way sh -c "$probe" 2>/dev/null && FULL_DISK_INSIDE=1 exec $way "$here/full_disk.sh" "$1"
  done
  echo "skipped: a full disk: no file system can be mounted here"
  echo "0 passed, 0 failed"
  exit 0
fi
begin "$1"
shim=$(cd "$1" && pwd)/tests/fault_shim.so
[ -e "$shim" ] || fail "$shim is not there; build it first"
disk=$work/disk
mkdir "$disk"
trap 'umount "$disk" 2>/dev/null; rm -rf "$work"' EXIT

# A checkpoint has 14 MB, the disk 24 MiB.
cat >"$work/small.yaml" <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [768, 0, 0], dense_count: 2, rows: [220000, 30], bag_length: [2, 1]}
table: {dim: 8, optimizer: {name: adagrad, lr: 0.1}}
model: {bottom: [8], top: [8]}
checkpoint: {every_steps: 2}
train: {global_batch: 128}
YAML
command=("$program" train "$work/small.yaml" --set "run.dir=$disk/run" --timeout 30)
launch 2 "$program" train "$work/small.yaml" --set "run.dir=$work/whole"
check "a run on a disk with room" ended 0

is_as_before() {
  [ "$(cd "$disk/run" && echo *)" = "ckpt-2.h5 lock metrics.jsonl" ] && "$program" ckpt verify "$disk/run/ckpt-2.h5" >/dev/null
}

# fill RANKS WAY COMMAND...: the whole story; COMMAND... stands in front of the program.
fill() {
  local count=$1 way=$2 start=$SECONDS said=("ckpt-4.h5.tmp" "No space left on device")
  shift 2
  mount -t tmpfs -o size=24m none "$disk" || fail "no tmpfs"
  launch "$count" "$@" "${command[@]}"
  check "$way, $count ranks: exit 1 and one line" ended 1 "${said[@]}"
  check "$way, $count ranks: the first checkpoint alone is there, and whole" is_as_before
  launch "$count" "$@" "${command[@]}" --resume
  check "$way, $count ranks: goes on from it" printed '^resume: goes on from .*/ckpt-2\.h5$'
  check "$way, $count ranks: and meets the full disk again" ended 1 "${said[@]}"
  check "$way, $count ranks: still the first alone" is_as_before
  check "$way, $count ranks: no rank has waited for another" test $((SECONDS - start)) -lt 30
  mount -o remount,size=96m none "$disk" || fail "no larger tmpfs"
  launch "$count" "${command[@]}" --resume
  check "$way, $count ranks: with room it ends" ended 0
  if [ "$count" = 2 ]; then
    alone "$program" ckpt diff "$disk/run/ckpt-6.h5" "$work/whole/ckpt-6.h5"
    check "$way: and with the weights of a run that had room" test "$(grep -vcE '^config|arrays (are equal|differ)' "$work/out")" = 0
  fi
  umount "$disk"
}

# What is reserved in advance tells at once; where a file system reserves nothing, a write does, on any rank.
for n in 1 2 3; do
  fill $n "reserved"
  fill $n "not reserved" env LD_PRELOAD="$shim" FAULT_NO_RESERVE=1
done

finish
