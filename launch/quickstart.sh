#!/usr/bin/env bash
# From a fresh Debian 12 and this repository to a trained model: launch/quickstart.sh. As root or a user with sudo.
# Installs what is missing, builds in build/, fetches MovieLens-100k, trains a DLRM whose embedding tables are cut by
# rows over two ranks (runs/quickstart/), and evaluates its checkpoint on three. Safe to run twice.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
[ $# = 0 ] || fail "usage: quickstart.sh"

say() {
  printf '\n== %s\n' "$*"
}

cd "$root"
data=build/data/ml-100k
run=runs/quickstart
config=configs/movielens.yaml
program=build/shardbag
settings=(--set "data.movielens.folder=$data" --set "run.dir=$run")

say "packages"
install_packages "${build_packages[@]}" python3 python3-pip
echo "all there"

say "build"
mkdir -p build
if ! build release build --target shardbag_app >build/quickstart.log 2>&1; then
  tail -n 20 build/quickstart.log >&2
  fail "the build failed: build/quickstart.log"
fi
echo "$program"

say "data"
launch/fetch_movielens.sh "$data"

say "training on 2 ranks"
rm -rf "$run"
mkdir -p "$run"
start=$SECONDS
launch/local.sh -n 2 "$program" train "$config" "${settings[@]}" 2>&1 | tee -i "$run/train.log"
echo "trained in $((SECONDS - start)) s"

# The checkpoint of the last step.
checkpoint=$(find "$run" -name 'ckpt-*.h5' | sort -V | tail -n 1)
[ -n "$checkpoint" ] || fail "the training left no checkpoint in $run"

say "the same checkpoint on 3 ranks: $checkpoint"
launch/local.sh -n 3 "$program" eval "$checkpoint" "$config" "${settings[@]}" 2>&1 | tee -i "$run/eval.log"

# Every number that the evaluation prints, the training printed last; equal to the last digit.
metrics() {
  tr -d '\r' <"$1" | grep -E '^test [a-z_]+ [-+0-9.e]+$' | tac | awk '!seen[$2]++' | sort
}

metrics "$run/train.log" >"$run/train.metrics"
metrics "$run/eval.log" >"$run/eval.metrics"
grep -q '^test auc ' "$run/eval.metrics" || fail "the evaluation printed no test auc"
diff "$run/train.metrics" "$run/eval.metrics" || fail "2 ranks (left) and 3 ranks (right) differ"

say "done"
echo "the metrics of 2 and of 3 ranks are the same to the last digit: $(grep '^test auc ' "$run/eval.metrics")"
