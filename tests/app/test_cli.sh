#!/usr/bin/env bash
# The `shardbag` command as its user meets it: exit codes, one line on stderr for the whole job, equal losses on
# any number of ranks, eval against train, signals, NaN. tests/app/test_cli.sh BUILD_FOLDER; ends with
# `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_cli.sh BUILD_FOLDER"
begin "$1"

# A model that trains in a second: 40 steps of SGD.
cat >"$work/small.yaml" <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [5120, 1000, 1000], dense_count: 4, rows: [500, 300, 7], bag_length: [1, 5, 2]}
table: {dim: 8, optimizer: {name: sgd, lr: 0.1}}
features: [{name: feature_1, mode: sum}, {name: feature_2, mode: max}]
model: {bottom: [16], top: [16], optimizer: {name: sgd, lr: 0.1}}
train: {global_batch: 128, log_every: 1}
YAML
small=$work/small.yaml

### usage
alone "$program"
check "no command" ended 2 "a command is missing"
alone "$program" trian
check "unknown command" ended 2 "did you mean 'train'"
alone "$program" train
check "no config" ended 2 "arguments are missing" CONFIG
alone "$program" train a b
check "spare argument" ended 2 "unexpected argument 'b'"
alone "$program" train --jsn x "$small"
check "unknown option" ended 2 "did you mean '--json'"
alone "$program" train "$small" --json
check "option without a value" ended 2 "a value is missing behind '--json'"
alone "$program" eval a b --progress bar
check "another command's option" ended 2 "does not take the option"
alone "$program" train "$small" --timeout soon
check "no number" ended 2 "--timeout is a number" soon
for words in --help "train --help" "eval --help" "plan --help" "train --help-config" --version; do
  # shellcheck disable=SC2086  # one word or two
  launch 2 "$program" $words
  check "$words" ended 0
  check "$words, once" test "$(sort "$work/out" | uniq -cd | grep -cE 'Usage|^ *[0-9]+ (seed|shardbag)')" = 0
  check "$words, something" test -s "$work/out"
done
launch 2 "$program" trian
check "unknown command on 2 ranks" ended 2 "did you mean 'train'"

### configs
launch 3 "$program" train "$work/nowhere.yaml"
check "no such config" ended 2 "nowhere.yaml: cannot open"
sed 's/global_batch/globl_batch/' "$small" >"$work/typo.yaml"
launch 3 "$program" train "$work/typo.yaml"
check "unknown key" ended 2 "typo.yaml:7: key 'train.globl_batch'" "did you mean 'global_batch'"
launch 2 "$program" train "$small" --set train.epochs=x
check "bad --set" ended 2 "--set: key 'train.epochs'" "an integer"
# shellcheck disable=SC2016  # the ranks' shell
launch 3 sh -c 'f=$2; [ "$OMPI_COMM_WORLD_RANK" != 1 ] || f=/nowhere.yaml; exec "$1" train "$f"' - "$program" "$small"
check "a config missing on one rank" ended 2 "rank 1" "/nowhere.yaml: cannot open"
sed 's/0.1/0.2/' "$small" >"$work/other.yaml"
# shellcheck disable=SC2016
launch 2 sh -c '[ "$OMPI_COMM_WORLD_RANK" = 0 ] || set -- "$1" "$3"; exec "$1" train "$2"' - "$program" "$small" "$work/other.yaml"
check "configs that differ" ended 2 "different texts"
launch 2 "$program" train "$small" --set 'features.0.name=feature_7' --set "run.dir=$work/none"
check "a feature the data has not" ended 2 "no feature 'feature_7'" "key 'features.0'"
launch 2 "$program" train "$small" --set 'table.ranks=[5]' --set "run.dir=$work/none"
check "a rank that is not there" ended 2 "5"
touch "$work/plain"
launch 2 "$program" train "$small" --set "run.dir=$work/plain/run"
check "no folder for the run" ended 1 "plain" "cannot make the run's folder"

### equal losses
losses() { grep '"event":"train"' "$1" | grep -oE '"loss":[^,}]*' | cut -d: -f2; }
# near A B: as many numbers, each within 1e-5 of the other's.
near() {
  paste <(losses "$1") <(losses "$2") | awk -v steps=40 '
    NF != 2 { exit 1 } { d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5 * $1) bad = 1; n++ }
    END { exit bad || n != steps }'
}
for n in 1 2 3; do
  launch $n "$program" train "$small" --set "run.dir=$work/r$n" --json "$work/j$n"
  check "training on $n ranks" ended 0
  check "plain lines" printed '^step 40/40  epoch 1  loss 0\.[0-9]{6}  lr 0\.1  [0-9]+ samples/s'
  check "test metrics" printed '^test auc 0\.[0-9]{4}$'
  check "a checkpoint" test -s "$work/r$n/ckpt-40.h5"
  check "metrics.jsonl is what --json gives" cmp -s "$work/j$n" "$work/r$n/metrics.jsonl"
  [ $n = 1 ] || check "losses of 1 and $n ranks" near "$work/j1" "$work/j$n"
  cp "$work/out" "$work/out$n"
done
check "an object a line" test "$(grep -cE '^\{"event":"(start|train|eval|checkpoint|end)",.*\}$' "$work/j2")" = 45
check "eval has space, step and auc" grep -qE '"event":"eval","space":"test","step":40,.*"auc":0\.' "$work/j2"

for n in 1 2 3; do
  launch $n "$program" train "$small" --set "run.dir=$work/b$n" --set train.reproducible=true \
    --set table.optimizer.name=adagrad --set table.layout=scramble --set model.dropout=0.1
  check "reproducible training on $n ranks" ended 0
  [ $n = 1 ] || check "equal losses of 1 and $n ranks" \
    test "$(losses "$work/b1/metrics.jsonl")" = "$(losses "$work/b$n/metrics.jsonl")"
done

### eval
final() { grep -E '^(valid|test) ' "$1" | tail -n 10; }
for n in 1 2 3; do
  launch $n "$program" eval "$work/r2/ckpt-40.h5" "$small" --json "$work/e$n"
  check "eval on $n ranks" ended 0
  check "eval on $n ranks repeats the training's digits" test "$(final "$work/out")" = "$(final "$work/out2")"
  check "eval on $n ranks in JSON" grep -qE '"space":"test","step":40' "$work/e$n"
done
launch 2 "$program" eval "$work/r2/ckpt-40.h5" "$small" --set table.dim=16
check "another dim" ended 2 "table 'feature_0'" "500 x 16" "500 x 8"
launch 2 "$program" eval "$work/r2/ckpt-40.h5" "$small" --set 'model.top=[24]'
check "another layer" ended 2 "dense array 'top/0/weight'" "24 x" "16 x"
launch 2 "$program" eval "$work/r2/ckpt-40.h5" "$small" --set 'features.0.table=feature_0'
check "a table too many" ended 2 "holds table 'feature_1'"
launch 2 "$program" eval "$work/nowhere.h5" "$small"
check "no such checkpoint" ended 2 "nowhere.h5: cannot open the checkpoint"
launch 2 "$program" eval "$small" "$small"
check "a checkpoint that is none" ended 1 small.yaml

### on the way
launch 2 "$program" train "$small" --progress none --set "run.dir=$work/es" --set train.eval_every=10 \
  --set train.log_every=20 --set run.checkpoint=false
check "eval_every" ended 0
check "evaluations on the way" test "$(grep -c '"space":"valid"' "$work/es/metrics.jsonl")" = 4
check "no progress" test "$(grep -cvE '^(valid|test) ' "$work/out")" = 0
check "no checkpoint" test -z "$(find "$work/es" -name '*.h5')"
launch 2 "$program" train "$small" --progress bar --set "run.dir=$work/bar" --set train.max_steps=7
check "max_steps" test -s "$work/bar/ckpt-7.h5"
launch 2 "$program" train "$small" --set "run.dir=$work/wait" --set train.eval_every=1 --set train.patience=3 \
  --set table.optimizer.lr=0 --set model.optimizer.lr=0
check "patience" printed '^trained 4 steps .*valid auc grows no more'
launch 2 "$program" train "$small" --set "run.dir=$work/nan" --set 'model.optimizer.lr=1e6' --set table.optimizer.lr=1e6 \
  --set train.epochs=5
check "NaN names its step" ended 1 "step " "loss"
check "nothing is saved then" test -z "$(find "$work/nan" -name '*.h5')"
printf '1\t5\n0\t7\n1\tx\n0\t3\n' >"$work/bad.tsv"
cat >"$work/bad.yaml" <<YAML
data:
  kind: delimited
  delimited:
    path: $work/bad.tsv
    columns: [{name: y, kind: label}, {name: a, kind: dense}]
YAML
launch 2 "$program" train "$work/bad.yaml" --set "run.dir=$work/none"
check "a bad row" ended 1 "bad.tsv" 3

launch 2 "$program" train "$work/bad.yaml" --set data.delimited.path=/nowhere.tsv --set "run.dir=$work/none"
check "no data" ended 1 "/nowhere.tsv: cannot open" "data.delimited.path"
"$program" plan "$small" >/dev/full 2>"$work/err"
code=$?
cp "$work/err" "$work/said"
check "output that cannot be written" ended 1 "standard output: cannot write"

### plan
launch 2 "$program" plan "$small" --json "$work/plan"
check "plan" ended 0
check "plan's rows" printed '^feature_0 1 250 8000$'
check "plan's objects" test "$(grep -c '"event":"plan"' "$work/plan")" = 6
launch 1 "$program" plan "$small" --ranks 3
check "plan for other ranks" printed '^feature_2 2 2 64$'

### signals
long=("$program" train "$small" --set train.epochs=1000000 --set train.log_every=100)
began() { grep -qs '"event":"train"' "$work/$1/metrics.jsonl"; }

# With threads of OpenBLAS, which are older than main and block no signal.
env -u OMP_NUM_THREADS -u OPENBLAS_NUM_THREADS mpirun --oversubscribe --bind-to none -n 2 "${marked[@]}" "$work/usr" "${long[@]}" >"$work/out" 2>"$work/err" </dev/null &
child=$!
wait_for began usr
kill -USR1 $child
wait $child
code=$?
check "SIGUSR1 ends well" test $code = 0
check "SIGUSR1 leaves a checkpoint" test -n "$(find "$work/usr" -name 'ckpt-*.h5')"
check "SIGUSR1 says so" printed 'stopped by a signal'

"$root/launch/local.sh" -n 2 "${long[@]}" --set "run.dir=$work/term" >"$work/out" 2>"$work/err" &
child=$!
wait_for began term
kill -TERM $child
wait $child
code=$?
check "local.sh turns SIGTERM into a stop" test $code = 0
check "with a checkpoint" test -n "$(find "$work/term" -name 'ckpt-*.h5')"

# hostfile.sh counts ranks by the file, and refuses one that does not say them.
printf '# here\nlocalhost slots=2\n' >"$work/hosts"
"$root/launch/hostfile.sh" "$work/hosts" "${long[@]}" --set "run.dir=$work/hosts-run" --set train.max_steps=2 \
  >"$work/out" 2>"$work/err" </dev/null
code=$?
check "hostfile.sh starts a machine's ranks" test $code = 0
check "as many as the file says" grep -qs '"ranks":2' "$work/hosts-run/metrics.jsonl"
echo node1 >>"$work/hosts"
"$root/launch/hostfile.sh" "$work/hosts" true >"$work/out" 2>"$work/err"
code=$?
check "hostfile.sh wants slots" test $code = 2
check "and says where" grep -q "'node1' does not say how many ranks" "$work/err"

# slurm.sbatch hands the command line to srun, with a thread a rank, and refuses a program that is not there.
mkdir -p "$work/slurm"
# shellcheck disable=SC2016  # the script's own arguments
printf '#!/bin/sh\necho "$@" threads=$OMP_NUM_THREADS\n' >"$work/slurm/srun"
chmod +x "$work/slurm/srun"
# batch PROGRAM: what Slurm would run, with an srun that only says what it got.
batch() {
  env -u OMP_NUM_THREADS PATH="$work/slurm:$PATH" SLURM_SUBMIT_DIR="$root" SHARDBAG="$1" \
    bash "$root/launch/slurm.sbatch" train "a config.yaml" --device cuda >"$work/out" 2>"$work/err"
}
batch "$program"
code=$?
check "slurm.sbatch runs srun" test $code = 0
check "with the command line" grep -qxF \
  -e "--mpi=pmix --kill-on-bad-exit=1 --cpu-bind=cores $program train a config.yaml --device cuda threads=1" "$work/out"
batch "$work/nothing"
code=$?
check "slurm.sbatch wants a program" test $code = 1
check "and says where it looked" grep -qF "$work/nothing is not there; build it" "$work/err"
bash "$root/launch/slurm.sbatch" train >"$work/out" 2>"$work/err"
code=$?
check "slurm.sbatch wants Slurm" test $code != 0
check "and says so" grep -q "run me by sbatch" "$work/err"

# silent_rank RANK: it is among those that did not answer. One that waits for it may be too: "ranks 1, 2".
silent_rank() { grep -qE "no answer from ranks? ([0-9]+, )*$1(,| within)" "$work/said"; }

# hang RANK: one rank of three is stopped; another one notices, speaks, and ends the job.
hang() {
  mpirun --oversubscribe --bind-to none -n 3 "${marked[@]}" "$work/hang$1" "${long[@]}" --timeout 3 \
    >"$work/out" 2>"$work/err" </dev/null &
  child=$!
  wait_for began "hang$1"
  kill -STOP "$(cat "$work/hang$1/pid$1")"
  wait $child
  code=$?
  unbanner
}
hang 1
check "rank 1 is silent" ended 1 "shardbag train: " "no answer from rank"
check "rank 1 is named" silent_rank 1
hang 0
check "rank 0 is silent" ended 1 "shardbag train: " "no answer from rank"
check "rank 0 is named" silent_rank 0

finish
