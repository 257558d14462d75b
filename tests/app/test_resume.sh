#!/usr/bin/env bash
# Runs that stop and go on: whatever ended them, the weights, optimizer states and lines of metrics are those of a
# run that was never stopped. tests/app/test_resume.sh [--full] BUILD_FOLDER; ends with `N passed, N failed`.
# --full kills 200 runs instead of 20. SHARDBAG_RESUME_SEED draws the moments.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
kills=20
if [ "${1-}" = --full ]; then
  kills=200
  shift
fi
[ $# = 1 ] || fail "usage: test_resume.sh [--full] BUILD_FOLDER"
begin "$1"
RANDOM=${SHARDBAG_RESUME_SEED:-7}

# train RANKS RUN ARGUMENT...: trains in $work/RUN; see launch.
train() {
  local count=$1 run=$2
  shift 2
  launch "$count" "$program" train "$work/small.yaml" --set "run.dir=$work/$run" "$@"
}

# Every kind of state: decay that moves rows no batch touches, Adam's and momentum's counts of steps, a row-wise state;
# dropout, a schedule, evaluations, two epochs of 20 steps.
cat >"$work/small.yaml" <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [2500, 500, 500], dense_count: 4, rows: [500, 300, 7, 40], bag_length: [1, 5, 2, 1]}
table: {dim: 8, optimizer: {name: adagrad, lr: 0.1, weight_decay: 0.001}}
tables:
  - {name: feature_1, optimizer: {name: adam, lr: 0.01}}
  - {name: feature_2, replicated: true, optimizer: {name: exact_rowwise_adagrad, lr: 0.1, weight_decay: 0}}
  - {name: feature_3, optimizer: {name: sgd, lr: 0.1, momentum: 0.9}}
features: [{name: feature_1, mode: sum}, {name: feature_2, mode: max}]
model: {bottom: [16], top: [16], dropout: 0.1, optimizer: {name: adam, lr: 0.01}}
schedule: {kind: polynomial, decay_steps: 40, end: 0.1}
checkpoint: {every_steps: 3}
train: {global_batch: 128, log_every: 4, epochs: 2, eval_every: 10, patience: 20}
YAML
last=40

# The arrays of two checkpoints, bit by bit. Without h5py, by the digits of an evaluation.
have_h5py=0
/usr/bin/python3 -c 'import h5py' 2>/dev/null && have_h5py=1
[ $have_h5py = 1 ] || echo "skipped: /usr/bin/python3 has no h5py: weights are compared by an evaluation's digits"
digits() {
  ranks 1 "$program" eval "$1" "$work/small.yaml"
}
same_weights() {
  local a=$work/$1/ckpt-$last.h5 b=$work/$2/ckpt-$last.h5
  if [ $have_h5py = 0 ]; then
    [ "$(digits "$a")" = "$(digits "$b")" ]
    return
  fi
  /usr/bin/python3 - "$a" "$b" <<'PYTHON'
import sys
import h5py

def arrays(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update(
            {name: item[...].tobytes()} if isinstance(item, h5py.Dataset) and name != "config" else
            {name + " attributes": sorted((k, str(v)) for k, v in item.attrs.items())}))
        found["file"] = sorted((k, str(v)) for k, v in file.attrs.items() if k != "run")
    return found

a, b = arrays(sys.argv[1]), arrays(sys.argv[2])
different = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
if different or len(a) < 25:
    sys.exit(f"of {len(a)}, these differ: {different}")
PYTHON
}

# What metrics.jsonl says of the training, without what is of one start (times, means over its steps since the last
# line) and without the starts and ends.
told() { grep -E '"event":"(train|eval)"' "$work/$1/metrics.jsonl" | sed -E 's/,"(samples_per_s|seconds|slowest_rank|slowest_ms|median_ms|(sent_bytes|owned_rows)_[a-z]*)":[^,}]*//g'; }
same_metrics() { [ "$(told "$1")" = "$(told "$2")" ]; }
checkpoints() { (cd "$work/$1" && printf '%s\n' ckpt-*.h5 | sort -t- -k2n | tr '\n' ' '); }

for n in 1 2 3; do
  train $n whole$n
  check "uninterrupted on $n ranks" ended 0
done
check "a checkpoint every 3 steps, and the last" test "$(checkpoints whole2)" = \
  "$(for s in $(seq 3 3 39) 40; do printf 'ckpt-%d.h5 ' "$s"; done)"
check "evaluations on the way and at the end" test "$(told whole2 | grep -c eval)" = 5

### stopped at a step, within and between epochs, before and after evaluations
for stop in 7 10 20 31; do
  n=$((stop % 3 + 1))
  train $n "at$stop" --set train.max_steps=$stop
  check "stops at $stop" ended 0
  train $n "at$stop" --resume
  check "goes on at $stop" ended 0
  check "says so" printed "^resume: goes on from .*/ckpt-$stop\.h5$"
  check "weights after $stop on $n ranks" same_weights whole$n "at$stop"
done
check "metrics after 20" same_metrics whole3 at20
train 1 at31 --resume --set checkpoint.every_steps=1
check "a run that is done" ended 0
check "trains no step more" printed '^trained 0 steps .*\(done\)'
check "evaluates again" test "$(told at31 | grep -c '"space":"test"')" = 1

### other numbers of ranks
losses() { grep '"event":"train"' "$1" | sed -E 's/.*"step":([0-9]+),.*"loss":([^,]*),.*/\1 \2/'; }
# near A B: the losses of the steps behind 20, each within 1e-5 of the other's.
near() {
  paste <(losses "$1" | awk '$1 > 20 && $1 <= 30') <(losses "$2" | awk '$1 > 20 && $1 <= 30') | awk '
    NF != 4 || $1 != $3 { exit 1 } { d = $2 - $4; if (d < 0) d = -d; if (d > 1e-5 * $2) bad = 1; n++ }
    END { exit bad || n != 10 }'
}
train 2 fork --set train.max_steps=20
for n in 2 1 3; do
  cp -r "$work/fork" "$work/fork$n"
  train $n fork$n --resume --set train.log_every=1 --set train.max_steps=30
  check "from 2 ranks on $n" ended 0
  [ $n = 2 ] || check "losses on $n ranks" near "$work/fork2/metrics.jsonl" "$work/fork$n/metrics.jsonl"
done

### SIGUSR1, wherever it comes
endless=(--set train.epochs=100000 --set train.patience=off --set checkpoint.every_steps=50 --set checkpoint.keep=2)
mpirun --oversubscribe --bind-to none -n 2 "$program" train "$work/small.yaml" --set "run.dir=$work/usr" \
  "${endless[@]}" >"$work/out" 2>"$work/err" </dev/null &
child=$!
wait_for grep -qs '"event":"train"' "$work/usr/metrics.jsonl"
in_use=("$work/usr: the folder is in use by process ")
train 1 usr
check "a second start" ended 1 "${in_use[@]}"
train 2 usr --resume
check "a second start to go on" ended 1 "${in_use[@]}"
train 1 usr2 --set "checkpoint.dir=$work/usr"
check "a second start with its checkpoints" ended 1 "${in_use[@]}"
kill -USR1 $child
wait $child
code=$?
unbanner
check "SIGUSR1" printed 'stopped by a signal'
at=$(sed -nE 's/^\{"event":"end","step":([0-9]+),.*/\1/p' "$work/usr/metrics.jsonl")
train 2 usr --resume "${endless[@]}" --set train.max_steps=$((at + 5))
check "goes on after it" ended 0
check "at its step" printed "ckpt-$at\.h5$"
check "for what is left" printed '^trained 5 steps'

### kill -9 of one rank or of all
# Small steps are made slower by evaluations, so that there are moments to hit.
slow=(--set train.eval_every=1 --set train.patience=off)
for n in 1 2 3; do
  train $n slow$n "${slow[@]}"
  check "the run to be killed, on $n ranks" ended 0
done
# kill_once RANKS RUN MOMENT NAP VICTIM: starts a run and ends it NAP s behind its MOMENT-th checkpoint, of 13, or where
# that is 0 behind its start, while MPI still begins. VICTIM is a rank, or RANKS for all of them.
kill_once() {
  local count=$1 run=$work/$2 moment=$3 nap=$4 victim=$5 child r pids=()
  mpirun --oversubscribe --bind-to none -n "$count" "${marked[@]}" "$run" "$program" train "$work/small.yaml" \
    "${slow[@]}" >"$run.out" 2>&1 </dev/null &
  child=$!
  for ((r = 0; r < count; r++)); do
    wait_for test -s "$run/pid$r"
    pids+=("$(cat "$run/pid$r")")
  done
  [ "$moment" = 0 ] || wait_for test -e "$run/ckpt-$((moment * 3)).h5"
  sleep "$nap"
  if [ "$victim" = "$count" ]; then kill -9 "${pids[@]}"; else kill -9 "${pids[victim]}"; fi 2>/dev/null
  wait $child 2>/dev/null
  wait_for sh -c '! kill -0 "$@" 2>/dev/null' - "${pids[@]}"
}
# Some at a time, because mpirun takes a second to notice a death; drawn here, as a subshell draws its own numbers.
midway=0 together=4
for ((k = 1; k <= kills; k += together)); do
  started=()
  for ((i = k; i < k + together && i <= kills; i++)); do
    n=$((RANDOM % 3 + 1)) moment=$((RANDOM % 14)) nap=0.0$(printf '%02d' $((RANDOM % 60)))
    [ $moment != 0 ] || nap=0.$((RANDOM % 900 + 100))
    kill_once "$n" "kill$i" "$moment" "$nap" $((RANDOM % (n + 1))) &
    started+=("$n")
  done
  wait
  for ((i = k; i < k + ${#started[@]}; i++)); do
    n=${started[i - k]} run=kill$i
    train "$n" "$run" --resume "${slow[@]}"
    check "kill $i: goes on" test $code = 0
    printed '^trained ([1-9]|[12][0-9]|3[0-8]) steps' && midway=$((midway + 1))
    check "kill $i: weights" same_weights "slow$n" "$run"
    check "kill $i: metrics" same_metrics "slow$n" "$run"
    rm -rf "${work:?}/$run" "$work/$run.out"
  done
done
echo "$kills kills, of which $midway fell between the first checkpoint and the last"
check "kills in the midst of runs" test $midway -ge $((kills / 2))

### what lies in the folder
train 2 none --resume --set train.max_steps=4
check "nothing to go on from" ended 0
check "says so" printed '^resume: no checkpoint in .*/none to go on from: begins at the beginning$'
touch "$work/none/ckpt-9.h5.tmp" "$work/none/other.tmp"
train 2 none --resume --set train.max_steps=5
check "a crash's leavings" warned 'ckpt-9.h5.tmp: removed'
check "are gone, and nothing else" test ! -e "$work/none/ckpt-9.h5.tmp" -a -e "$work/none/other.tmp"
check "and it went on" printed '^trained 1 steps'

cp -r "$work/whole2" "$work/broken"
rm "$work"/broken/ckpt-[1-3][0-9].h5 "$work/broken/ckpt-40.h5"
printf 'x' | dd of="$work/broken/ckpt-9.h5" bs=1 seek=5000 conv=notrunc 2>/dev/null
truncate -s 5000 "$work/broken/ckpt-6.h5"
echo no checkpoint >"$work/broken/ckpt-12.h5"
sed -i '/"event":"checkpoint","step":3,/d' "$work/broken/metrics.jsonl" # as if killed before it was told
printf '{"event":"train","st' >>"$work/broken/metrics.jsonl"
train 2 broken --resume
check "damaged ones" test $code = 0
check "are left out: not ours" warned 'ckpt-12.h5 is left out'
check "a flipped byte" warned 'ckpt-9.h5 is left out'
check "cut short" warned 'ckpt-6.h5 is left out'
check "on from the last that is whole" printed '^resume: goes on from .*/ckpt-3.h5$'
check "weights after damage" same_weights whole2 broken
check "metrics after damage" same_metrics whole2 broken

train 2 again --set train.max_steps=9
train 2 again --set train.max_steps=4 --set checkpoint.every_steps=4
train 2 again --resume --set train.max_steps=6 --set checkpoint.every_steps=off
check "an earlier run's" warned 'ckpt-9.h5 is left out: it was written by an earlier run'
check "are not this one's" printed '^resume: goes on from .*/ckpt-4.h5$'

train 2 keep --set checkpoint.keep=2 --set train.max_steps=10
check "keep" test "$(checkpoints keep)" = "ckpt-9.h5 ckpt-10.h5 "
train 2 keep --set checkpoint.keep=3 --set train.max_steps=16 --resume
check "keep, resumed" test "$(checkpoints keep)" = "ckpt-12.h5 ckpt-15.h5 ckpt-16.h5 "
train 2 elsewhere --set "checkpoint.dir=$work/there/deep" --set train.max_steps=4 --set checkpoint.keep=1 \
  --set checkpoint.every_minutes=1e-9 --set checkpoint.every_steps=off
check "every_minutes, in a folder of its own" test "$(grep -c '"event":"checkpoint"' "$work/elsewhere/metrics.jsonl")" = 4
check "of which one stays" test "$(checkpoints there/deep)" = "ckpt-4.h5 "
train 1 elsewhere --set "checkpoint.dir=$work/there/deep" --resume
check "from there" printed '^resume: goes on from .*/there/deep/ckpt-4.h5$'

### what does not fit
refused() {
  local name=$1
  shift
  local words=()
  while [ "$1" != -- ]; do
    words+=("$1")
    shift
  done
  shift
  train 2 keep --resume "$@"
  check "$name" ended 2 ckpt-16.h5 "${words[@]}"
}
refused "another dim" "table 'feature_1'" "300 x 16" "300 x 8" -- --set table.dim=16
refused "another layer" "dense array 'top/0/weight'" -- --set 'model.top=[24]'
refused "another optimizer" feature_2 exact_adagrad exact_rowwise -- --set tables.1.optimizer.name=exact_adagrad
refused "a state less" "feature_3/state/momentum_buffer" -- --set tables.2.optimizer.momentum=0
refused "a state more" "feature_1" "max_exp_avg_sq" -- --set tables.0.optimizer.amsgrad=true
refused "another dense optimizer" dense sgd adam -- --set model.optimizer.name=sgd
refused "another batch" "train.global_batch is 64" "128" -- --set train.global_batch=64
refused "another order" "data.seed is 5" -- --set data.seed=5
refused "other data" "training samples is 2400" "2500" -- --set 'data.synthetic.samples=[2400,500,500]'
check "and the folder is as it was" test "$(checkpoints keep)" = "ckpt-12.h5 ckpt-15.h5 ckpt-16.h5 "
train 2 keep --resume --set checkpoint.keep=-1
check "keep below 0" ended 2 "key 'checkpoint.keep'"

finish
