#!/usr/bin/env bash
# Random short runs, half of them with a fault: tests/soak/run.sh BUILD_FOLDER COUNT [SEED]. Run i has the seed
# SEED + i (default 1), which decides everything; a failing run is repeated alone by `run.sh BUILD_FOLDER 1 ITS_SEED`.
# Ends with `N passed, N failed`.
#
# Without a fault: a case of the property test on 1 to 8 ranks against the oracle. With one: on one rank an allocation
# fails, an argument is wrong, a call of MPI fails, or the process leaves, sleeps, is killed or is stopped, in the
# library's steps or anywhere in `shardbag train`. Then every rank must end within the deadline, the job with an exit
# code and one line that names the rank and what happened, and nothing may be left: no process, no file.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$here/../../launch/common.sh"
[ $# -ge 2 ] || fail "usage: run.sh BUILD_FOLDER COUNT [SEED]"
build=$(cd "$1" && pwd)
count=$2 first=${3:-1}
[ -x "$build/tests/soak" ] || fail "$build/tests/soak is not there; build it first"
export OMPI_MCA_mpi_yield_when_idle=1

# A sanitizer's runs start slowly; its own library does not come first where another one is preloaded.
timeout_s=3 # of the runs with a fault
if ldd "$build/tests/soak" | grep -q libasan; then
  timeout_s=10
  export ASAN_OPTIONS=${ASAN_OPTIONS:-fast_unwind_on_malloc=0}:verify_asan_link_order=0
  export LSAN_OPTIONS=${LSAN_OPTIONS:-suppressions=$root/tests/mpi/lsan.supp:print_suppressions=0}
fi
readonly grace_s=12  # and what ending takes at most: 1 + 8 s where all lower ranks are silent, and a busy machine
readonly cases_a_launch=12
readonly side_by_side=2 # runs with a fault mostly wait
work=$(mktemp -d)
trap 'wait; rm -rf "$work"' EXIT
: >"$work/results"

cat >"$work/train.yaml" <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [640, 200, 200], dense_count: 4, rows: [500, 300, 7], bag_length: [1, 5, 2]}
table: {dim: 8, optimizer: {name: adagrad, lr: 0.1}}
features: [{name: feature_1, mode: sum}, {name: feature_2, mode: max}]
model: {bottom: [16], top: [16], optimizer: {name: sgd, lr: 0.1}}
train: {global_batch: 64, log_every: 1, eval_every: 4}
checkpoint: {every_steps: 3}
YAML

# draw SEED: what its run is, in $kind (cases, library, train), $ranks, $victim, $what and $at.
draw() {
  RANDOM=$(($1 % 32768)) # by seed alone; bash's own first numbers lie close together
  : $RANDOM $RANDOM $RANDOM
  local dice=$((RANDOM % 20))
  ranks=$((RANDOM % 8 + 1))
  if [ $dice -lt 10 ]; then
    kind=cases
    return
  fi
  [ $ranks -gt 1 ] || ranks=2
  victim=$((RANDOM % ranks))
  if [ $dice -lt 15 ]; then kind=library; else kind=train; fi
  local actions=(stop kill error exit sleep stop error)
  if [ $kind = library ] && [ $((RANDOM % 2)) = 0 ]; then
    actions=(memory range table leave memory)
    what=${actions[RANDOM % 5]} at=$((RANDOM % 120 + 1))
  else
    what=${actions[RANDOM % 7]} at=$((RANDOM % (60 * ranks) + 1))
    if [ $kind = train ]; then at=$((RANDOM % (100 + 200 * ranks) + 1)); fi
  fi
}

# bad SEED WORDS...: a run that failed, with what it left.
bad() {
  local seed=$1
  shift
  {
    echo "FAIL  seed $seed: $kind on $ranks ranks${what:+, $what at $at on rank $victim}: $*"
    tail -n 12 "$run/err" | sed 's/^/      | /'
  } >"$run/complaint"
  cat "$run/complaint"
  echo "failed 1" >>"$work/results"
}

good() { echo "passed $1" >>"$work/results"; }

### runs without a fault, several in a launch

# cases RANKS SEED...: one launch; where it dies, the seed that it was at has failed, and the others are tried again.
cases() {
  local seeds reached
  ranks=$1 kind=cases what=
  shift
  seeds=("$@")
  while [ ${#seeds[@]} -gt 0 ]; do
    if timeout -k 5 300 mpirun --oversubscribe --bind-to none -n "$ranks" "$build/tests/soak" cases "${seeds[@]}" \
      >"$run/out" 2>"$run/err" </dev/null && grep -qx 'done' "$run/out"; then
      good ${#seeds[@]}
      return
    fi
    reached=$(grep -c '^seed ' "$run/out")
    [ "$reached" -gt 0 ] || reached=1
    bad "${seeds[reached - 1]}" "not what the oracle says, or no end"
    good $((reached - 1))
    seeds=("${seeds[@]:reached}")
  done
}

### runs with a fault

# unbanner: what the job itself said, without mpirun's lines.
unbanner() {
  sed -e '/^-----*$/,/^-----*$/d' -e '/^\[[^ ]*:[0-9]*\]/d' -e '/^mpirun\( noticed\|:\)/d' -e '/^$/d' "$run/err" >"$run/said"
}

# left_processes: those of this run that still live, a moment after its end.
left_processes() {
  local tries pid alive pids=()
  mapfile -t pids < <(cat "$run"/pid.* 2>/dev/null)
  for tries in $(seq 30); do
    alive=()
    for pid in "${pids[@]}"; do
      kill -0 "$pid" 2>/dev/null && alive+=("$pid")
    done
    [ ${#alive[@]} -gt 0 ] || return 1
    sleep 0.1
  done
  kill -9 "${alive[@]}" 2>/dev/null
  echo "${alive[*]} (after $tries tries)"
}

# launch PROGRAM ARGUMENT...: with the fault of the draw; sets $code and $took_ms.
launch() {
  local begun=${EPOCHREALTIME/./}
  mkdir -p "$run/tmp" "$run/shm"
  # Each rank leaves its process id, and then becomes the program.
  # shellcheck disable=SC2016  # the ranks' shell
  TMPDIR=$run/tmp OMPI_MCA_btl_vader_backing_directory=$run/shm timeout -k 5 60 \
    mpirun --oversubscribe --bind-to none -n "$ranks" sh -c 'echo $$ >"$1/pid.$OMPI_COMM_WORLD_RANK"; shift; exec "$@"' - \
    "$run" "$@" >"$run/out" 2>"$run/err" </dev/null
  code=$?
  took_ms=$(((${EPOCHREALTIME/./} - begun) / 1000))
  unbanner
}

# told RANK: every other rank that could say how it ended did so with an error that names the rank.
told() {
  local rank
  for rank in $(seq 0 $((ranks - 1))); do
    [ "$rank" != "$1" ] || continue
    [ -s "$run/report.$rank" ] || continue
    grep -v '^ok ' "$run/report.$rank" | grep -qE "rank $1\b|ranks? ([0-9]+, )*$1\b" && continue
    echo "rank $rank: $(cat "$run/report.$rank")"
    return 1
  done
}

# fired: whether the fault came to pass; a run may be over before.
fired() {
  case $what in
  memory | range | table | leave) grep -qE '^[a-z]+ 1 ' "$run/report.$victim" 2>/dev/null ;;
  *) [ -s "$run/mark" ] && ! grep -q '^calls' "$run/mark" ;;
  esac
}

one_line() { [ "$(wc -l <"$run/said")" = 1 ]; }

# judge SEED: whether the run ended as it must.
judge() {
  local seed=$1 left
  if left=$(left_processes); then bad "$seed" "processes are left: $left"; return; fi
  left=$(find "$run/tmp" -mindepth 1 -not -path '*/ompi.*' 2>/dev/null)
  if [ -n "$left" ]; then bad "$seed" "files are left: $left"; return; fi
  if [ "$took_ms" -gt $(((timeout_s + grace_s) * 1000)) ]; then bad "$seed" "took $took_ms ms"; return; fi
  if grep -qE 'AddressSanitizer|runtime error|LeakSanitizer' "$run/err"; then bad "$seed" "a sanitizer's report"; return; fi
  if ! fired || [ "$what" = sleep ]; then
    [ "$code" = 0 ] || { bad "$seed" "exit $code, though nothing that must end it happened"; return; }
    good 1
    return
  fi
  # An error while a run that is done closes its communicators takes nothing from what it did.
  if [ "$what" = error ] && [ "$code" = 0 ] && all_done; then good 1; return; fi
  [ "$code" != 0 ] || { bad "$seed" "exit 0"; return; }
  case $what in
  kill | exit) ;; # mpirun sees that a process is gone, says so, and ends the rest before they have anything to say
  *)
    [ "$code" = 1 ] || { bad "$seed" "exit $code, not 1"; return; }
    one_line || { bad "$seed" "not one line on stderr"; return; }
    said || { bad "$seed" "the line names no rank, or no phase"; return; }
    ;;
  esac
  if ! left=$(told "$victim"); then bad "$seed" "a rank did not learn of it: $left"; return; fi
  good 1
}

all_done() {
  [ $kind != train ] || { grep -q '^test auc ' "$run/out" && return; }
  [ "$(grep -l '^ok ' "$run"/report.* 2>/dev/null | wc -l)" = "$ranks" ]
}

# said: the line has the rank and the phase. The start and the end of MPI tell neither who is missing nor, of a rank 0
# that speaks for itself, that it is rank 0.
said() {
  grep -qE ': (start|end) of MPI: not all ranks came' "$run/said" && return
  grep -qE "rank $victim\b|ranks? ([0-9]+, )*$victim\b" "$run/said" && grep -qE '^shardbag [a-z]+: .*: ' "$run/said" && return
  [ "$victim" = 0 ] && grep -qE '^shardbag [a-z]+: (step|MPI_|comm|start)' "$run/said"
}

fault() {
  local seed=$1 shim=$build/tests/soak_shim.so
  export SOAK_REPORT=$run/report SOAK_TIMEOUT=$timeout_s SOAK_MARK=$run/mark SOAK_RANK=$victim
  local with=(env "LD_PRELOAD=$shim" "SOAK_DO=$what" "SOAK_AT=$at")
  case $kind,$what in
  library,memory | library,range | library,table | library,leave)
    launch "$build/tests/soak" fault "$seed" "$victim" "$what" "$at" ;;
  library,*) launch "${with[@]}" "$build/tests/soak" fault "$seed" 0 none 0 ;;
  train,*) launch "${with[@]}" "$build/shardbag" train "$work/train.yaml" --timeout $timeout_s --set "run.dir=$run/train" ;;
  esac
  judge "$seed"
}

# one SEED: a run with a fault, in a process of its own.
one() {
  fault "$1"
  [ -z "${SOAK_VERBOSE-}" ] ||
    echo "seed $1: $kind, $ranks ranks, $what at $at on $victim: $took_ms ms, exit $code, $(cat "$run/mark" 2>/dev/null): $(cat "$run/said")"
  rm -rf "$run"
}

declare -a waiting=()
for seed in $(seq "$first" $((first + count - 1))); do
  kind='' ranks=0 victim=0 what='' at=0
  draw "$seed"
  run=$work/$seed
  mkdir "$run"
  if [ $kind != cases ]; then
    while [ "$(jobs -rp | wc -l)" -ge $side_by_side ]; do wait -n; done
    one "$seed" &
    continue
  fi
  waiting[ranks]="${waiting[ranks]-} $seed"
  read -ra seeds <<<"${waiting[ranks]}"
  if [ ${#seeds[@]} -ge $cases_a_launch ]; then
    cases "$ranks" "${seeds[@]}"
    waiting[ranks]=
  fi
done
run=$work/rest
mkdir "$run"
for ranks in "${!waiting[@]}"; do
  read -ra seeds <<<"${waiting[ranks]}"
  [ ${#seeds[@]} = 0 ] || cases "$ranks" "${seeds[@]}"
done
wait

total() { awk -v what="$1" '$1 == what { n += $2 } END { print n + 0 }' "$work/results"; }
echo "$(total passed) passed, $(total failed) failed"
[ "$(total failed)" = 0 ] && [ "$(total passed)" = "$count" ]
