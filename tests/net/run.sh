#!/usr/bin/env bash
# The same programs over real transports: TCP on loopback, and TCP between two hosts, which are network
# namespaces of this machine with a cable (veth) between them; and what happens when the cable is cut.
# tests/net/run.sh BUILD_FOLDER; ends with `N passed, N failed`. The two hosts need root; without, they are skipped.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/app/common.bash
. "$here/../app/common.bash"
[ $# = 1 ] || fail "usage: run.sh BUILD_FOLDER"
begin "$1"
tests=$(cd "$1" && pwd)/tests
export OMPI_MCA_mpi_yield_when_idle=1 SHARDBAG_PROPERTY_CASES=40

readonly here_name="sbag-$$-a" there_name="sbag-$$-b" # namespaces, and the hosts' names
readonly cable="sbag$$" here_ip=10.213.7.1 there_ip=10.213.7.2

# shellcheck disable=SC2317  # called by the trap
clean_up() {
  local name pid
  for name in $here_name $there_name; do
    for pid in $(ip netns pids "$name" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
    ip netns del "$name" 2>/dev/null # the cable goes with its ends
  done
  rm -rf "$work"
}
trap clean_up EXIT

# The hosts. In a namespace of its own a process has its own network; a name of its own keeps Open MPI from taking the
# two for one machine and sharing memory between them.
make_hosts() {
  command -v ip >/dev/null && command -v unshare >/dev/null || return 1
  ip netns add $here_name && ip netns add $there_name &&
    ip link add "${cable}a" netns $here_name type veth peer name "${cable}b" netns $there_name &&
    ip -n $here_name addr add $here_ip/24 dev "${cable}a" && ip -n $there_name addr add $there_ip/24 dev "${cable}b" &&
    ip -n $here_name link set lo up && ip -n $there_name link set lo up &&
    ip -n $here_name link set "${cable}a" up && ip -n $there_name link set "${cable}b" up &&
    on_host $here_name sh -c 'echo 5 >/proc/sys/net/ipv4/tcp_retries2' &&
    on_host $there_name sh -c 'echo 5 >/proc/sys/net/ipv4/tcp_retries2'
}

# on_host NAME COMMAND...: runs it there.
on_host() {
  local name=$1
  shift
  # shellcheck disable=SC2016  # the inner shell's own arguments
  ip netns exec "$name" unshare -u sh -c 'hostname "$1"; shift; exec "$@"' - "$name" "$@"
}

# What mpirun takes for ssh: called as AGENT ADDRESS COMMAND.
write_agent() {
  cat >"$work/agent" <<SH
#!/bin/sh
shift
exec ip netns exec $there_name unshare -u sh -c 'hostname $there_name; exec sh -c "\$1"' - "\$*"
SH
  chmod +x "$work/agent"
}

# The daemons of Open MPI miss each other by TCP alone, which by default takes minutes: by its keep-alive, and where
# something is under way by its retries (tcp_retries2 below).
keepalive=(--mca oob_tcp_keepalive_time 2 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3)

# over TRANSPORT RANKS COMMAND...: leaves $code, $work/out and $work/err.
over() {
  local transport=$1 count=$2
  shift 2
  local how=(--oversubscribe --bind-to none -n "$count")
  case $transport in
  memory) how+=(--mca btl self,vader) ;;
  loopback) how+=(--mca btl self,tcp --mca btl_tcp_if_include lo) ;;
  hosts) how+=(--mca plm_rsh_agent "$work/agent" -H "$here_ip:4,$there_ip:4" --map-by node "${keepalive[@]}") ;;
  esac
  local start=(timeout -k 5 150 mpirun "${how[@]}" "$@")
  [ "$transport" != hosts ] || start=(on_host "$here_name" "${start[@]}")
  "${start[@]}" >"$work/out" 2>"$work/err" </dev/null
  code=$?
}

all_passed() { [ $code = 0 ] && grep -qE '[0-9]+ passed, 0 failed$' "$work/out"; }

losses() { grep '"event":"train"' "$1" | grep -oE '"loss":[^,}]*'; }

# A training that gives the same bits on any number of ranks, and so over any transport.
training=("$program" train "$root/configs/synthetic.yaml" --set train.max_steps=20 --set train.reproducible=true
  --set train.log_every=1 --set run.checkpoint=false --timeout 30)

check_training() {
  local transport=$1 count=$2
  over "$transport" "$count" "${training[@]}" --set "run.dir=$work/$transport$count"
  check "$transport: training, $count ranks" test $code = 0
  check "$transport: the same losses, $count ranks" \
    test "$(losses "$work/$transport$count/metrics.jsonl")" = "$(losses "$work/memory2/metrics.jsonl")"
}

check_transport() {
  local transport=$1 count suites
  shift
  for count in "$@"; do
    over "$transport" "$count" "$tests/golden" "$root"/tests/golden/*.h5
    check "$transport: golden, $count ranks" all_passed
    suites=(exchange property)
    [ "$count" = 2 ] || suites+=(comm) # on 2 ranks it moves gigabytes
    over "$transport" "$count" "$tests/mpi" "${suites[@]}"
    check "$transport: suites, $count ranks" all_passed
    check_training "$transport" "$count"
  done
}

bytes_through_cable() { ip netns exec $here_name cat "/sys/class/net/${cable}a/statistics/tx_bytes"; }

# left [NAME]: processes of that name, or any, on the hosts.
left() {
  local pid
  for pid in $(ip netns pids $here_name) $(ip netns pids $there_name); do
    [ $# = 0 ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && echo "$pid"
  done
}

# none_left SECONDS [NAME]: whether they are gone by then.
none_left() {
  local end=$((SECONDS + $1))
  shift
  while [ -n "$(left "$@")" ]; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

# The cable is cut in the middle of a training: each host's ranks miss the other's, and end. mpirun ends when it finds
# that its daemon on the other host is out of reach.
cut_cable() {
  over hosts 4 "${training[@]}" --timeout 4 --set train.max_steps=1000000000 --set train.epochs=1000000 \
    --set "run.dir=$work/cut" &
  local child=$!
  check "a cut cable: training has begun" wait_for grep -qs '"event":"train"' "$work/cut/metrics.jsonl"
  ip -n $here_name link set "${cable}a" down
  check "a cut cable: all ranks end" none_left 16 shardbag
  check "a cut cable: all ends" none_left 60
  wait $child
  unbanner
  check "a cut cable: who is missing, and where" \
    grep -qE '^shardbag train: .*: no answer from ranks 1, 3 within 4 s$' "$work/said"
  check "a cut cable: one line" test "$(grep -c '^shardbag' "$work/said")" = 1
}

check_training memory 2 # whose suites and golden files are run where ranks share memory anyway
check_training memory 4
check_transport loopback 2 4
if make_hosts 2>"$work/why"; then
  write_agent
  check_transport hosts 2 4
  check "hosts: bytes went through the cable" test "$(bytes_through_cable)" -gt 1000000
  cut_cable
else
  echo "skipped: two hosts: no network namespaces here ($(tail -n 1 "$work/why"))"
fi
finish
