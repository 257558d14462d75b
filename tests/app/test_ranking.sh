#!/usr/bin/env bash
# Ranking: what it learns, the same on any number of ranks; going on; what cannot be read.
# tests/app/test_ranking.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_ranking.sh BUILD_FOLDER"
begin "$1"
config=$root/configs/ranking_lists.yaml

# 120 users and 90 items of three kinds; a user has 14 of the 30 items of its kind, and the same item, 0, is everybody's.
awk -v test="$work/test.txt" 'BEGIN {
  srand(3)
  for (u = 0; u < 120; u++) {
    for (i = 0; i < 30; i++) order[i] = u % 3 * 30 + i + 1
    for (i = 29; i > 0; i--) { j = int(rand() * (i + 1)); t = order[i]; order[i] = order[j]; order[j] = t }
    line = u " 0"
    for (i = 0; i < 10; i++) line = line " " order[i]
    print line
    line = u
    for (i = 10; i < 14; i++) line = line " " order[i]
    print line >test
  }
}' >"$work/train.txt"

# train RANKS RUN ARGUMENT...: one rank without mpirun, which takes a second or two to end a job that fails.
train() {
  local count=$1 run=$2 start=(launch "$1")
  [ "$count" != 1 ] || start=(alone)
  shift 2
  "${start[@]}" "$program" train "$config" --set "data.ranking.train=$work/train.txt" \
    --set "data.ranking.test=$work/test.txt" --set table.dim=16 --set train.epochs=10 --set train.global_batch=64 \
    --set model.temperature=1 --set model.l2=0.01 --set data.ranking.negatives=16 \
    --set train.log_every=10 --set "run.dir=$work/$run" "$@"
}
metrics() { grep -E '^test ' "$work/out"; }
told() { grep -oE '"event":"train".*"loss":[0-9.e-]+' "$work/$1/metrics.jsonl"; }
numbers() { grep -E '"event":"(train|eval)"' "$work/$1/metrics.jsonl" | grep -oE '"(loss|recall@20|ndcg@20|popularity[a-z_@0-9]*)":[^,}]*'; }
same() { "$program" ckpt diff "$work/$1" "$work/$2" 2>/dev/null | cut -d: -f1 | grep -vqx config && return 1 || return 0; }
# above METRIC LIMIT: of the last output.
above() { awk -v name="$1" -v limit="$2" '$2 == name { good = $3 > limit } END { exit !good }' "$work/out"; }

for n in 1 2 4; do
  train $n fixed$n --set train.reproducible=true
  check "reproducible on $n ranks" ended 0
  check "kinds are learned on $n ranks" above recall@20 0.9
  metrics >"$work/metrics$n"
  check "the same metrics on $n ranks" diff "$work/metrics1" "$work/metrics$n"
  check "the same losses on $n ranks" [ "$(told fixed$n)" = "$(told fixed1)" ]
done
check "popularity beside it" grep -qE '^test popularity_recall@20 0\.[0-3]' "$work/metrics1"
check "the same weights on 4 ranks" same fixed1/ckpt-210.h5 fixed4/ckpt-210.h5
launch 3 "$program" eval "$work/fixed1/ckpt-210.h5" "$config" \
  --set "data.ranking.train=$work/train.txt" --set "data.ranking.test=$work/test.txt" --set table.dim=16
metrics >"$work/metrics"
check "an evaluation of the checkpoint on 3 ranks says the same" diff "$work/metrics1" "$work/metrics"

# The best items of each test user: those of its kind that it was not trained with.
mine=(--set "data.ranking.train=$work/train.txt" --set "data.ranking.test=$work/test.txt" --set table.dim=16)
launch 3 "$program" predict "$work/fixed1/ckpt-210.h5" "$config" "${mine[@]}" --split test --k 15 --output "$work/best"
check "predictions" ended 0
check "are of the users' kinds" awk 'NF != 16 { bad = 1 } { for (i = 2; i <= 16; i++) good += int(($i - 1) / 30) == $1 % 3 } END { exit bad || NR != 120 || good < 0.9 * 15 * 120 }' "$work/best"
check "and no training items" awk 'NR == FNR { for (i = 2; i <= NF; i++) known[$1, $i]; next } { for (i = 2; i <= NF; i++) if (($1, $i) in known) exit 1 }' "$work/train.txt" "$work/best"
alone "$program" predict "$work/fixed1/ckpt-210.h5" "$config" "${mine[@]}" --split test --k 15
check "on one rank the same" diff "$work/out" "$work/best"
alone "$program" predict "$work/fixed1/ckpt-210.h5" "$config" "${mine[@]}" --split test --k 2 --format json
check "as JSON" [ "$(grep -cE '^\{"user":"[0-9]+","items":\[\["[0-9]+",-?[0-9.]+\],\["[0-9]+",-?[0-9.]+\]\]\}$' "$work/out")" = 120 ]

printf '7\n3 1 2\n7\r\n100\n' >"$work/users"
launch 3 "$program" predict "$work/fixed1/ckpt-210.h5" "$config" "${mine[@]}" --input "$work/users" --k 15 --output "$work/listed"
check "of users by name" ended 0
check "in the file's order" [ "$(cut -f1 "$work/listed" | tr '\n' ' ')" = "7 3 7 100 " ]
check "the same items" diff <(sed -n 2p "$work/listed") <(grep -P '^3\t' "$work/best")
printf '7\n700\n' >"$work/users"
alone "$program" predict "$work/fixed1/ckpt-210.h5" "$config" "${mine[@]}" --input "$work/users"
check "of a stranger" ended 1 "users:2: column 0: not a user: '700'"

train 2 bpr --set model.loss=bpr --set data.ranking.negatives=1 --set train.top_k=5
check "BPR" above recall@5 0.1
head -n 40 "$work/test.txt" >"$work/few.txt"
train 2 history --set "eval=[{name: few, path: $work/few.txt}, {name: all, path: $work/test.txt}]" --set data.ranking.history_length=6
check "with histories" above recall@20 0.9
check "a further set" printed '^few recall@20 [01]\.[0-9]+$'
check "the test's lists by another name" diff <(sed -n 's/^all //p' "$work/out") <(sed -n 's/^test //p' "$work/out")
train 2 halves --set table.dtype=bf16 --set wire.vectors=bf16
check "tables in 16 bits" above recall@20 0.9

# Stopped after 100 steps, and gone on.
train 2 parts --set checkpoint.every_steps=100 --set train.max_steps=100
train 2 parts --resume
check "resumed" ended 0
train 2 whole
check "to the same bits" same whole/ckpt-210.h5 parts/ckpt-210.h5

launch 2 "$program" neighbours "$work/whole/ckpt-210.h5" 1 --table item --k 5
check "neighbours of an item are of its kind" awk '$1 < 1 || $1 > 30 { bad = 1 } END { exit bad || NR != 5 }' "$work/out"
alone "$program" neighbours "$work/whole/ckpt-210.h5" 1
check "whose neighbours" ended 2 "--table" "item, user have a vocabulary"

### the binary form
check "there are numbers to compare" [ "$(numbers fixed1 | wc -l)" -gt 20 ]
alone "$program" data convert "$config" "${mine[@]}" --set data.ranking.negatives=16 --output "$work/lists.h5"
check "converts" ended 0
for n in 1 2 4; do
  train $n binary$n --set train.reproducible=true --set data.kind=binary --set "data.binary.path=$work/lists.h5"
  check "from the binary form on $n ranks" ended 0
  check "the same losses and metrics" [ "$(numbers binary$n)" = "$(numbers fixed$n)" ]
  check "and weights" same fixed$n/ckpt-210.h5 binary$n/ckpt-210.h5
done
train 2 fast --set data.kind=binary --set "data.binary.path=$work/lists.h5"
check "also where ranks' number shows" [ "$(numbers fast)" = "$(numbers whole)" ]
alone "$program" predict "$work/fixed1/ckpt-210.h5" "$config" "${mine[@]}" --split test --k 15 --set data.kind=binary \
  --set "data.binary.path=$work/lists.h5"
check "the same items" diff "$work/out" "$work/best"
alone "$program" data convert "$config" "${mine[@]}" --split test --output "$work/part.h5"
check "a split alone" ended 1 "are converted whole"
{ head -c 15000 "$work/lists.h5"; printf x; tail -c +15002 "$work/lists.h5"; } >"$work/flipped.h5"
train 1 flipped --set data.kind=binary --set "data.binary.path=$work/flipped.h5"
check "a file that is damaged" ended 1 "flipped.h5"

### what cannot be read: file, line, column, reason
bad() {
  train "${on:-1}" bad --set "data.ranking.train=$work/bad.txt"
  check "$1" ended 1 "bad.txt:$2: column $3" "$4"
  rm -rf "$work/bad"
}
printf '1 2 3\n2 x 4\n' >"$work/bad.txt"
on=2 bad "an item that is no number" 2 1 "digits alone"
printf '1 2 3\n\n2 3\n' >"$work/bad.txt"
bad "an empty line" 2 0 "empty"
printf '1 2 3\r\n2 3 4\00045\n' >"$work/bad.txt"
bad "a NUL byte" 2 2 "NUL"
printf '1 2 3\n2 99999999999999999999999\n' >"$work/bad.txt"
bad "a huge number" 2 1 "digits alone"
{ cat "$work/train.txt"; printf 'x 1\n7 1 y\n'; } >"$work/bad.txt"
train 2 skipped --set "data.ranking.train=$work/bad.txt" --set data.ranking.on_bad_row=skip
check "skipped" ended 0
check "and counted" printed '^2 bad rows left out; the first: .*bad.txt:121: column 0'
train 1 gone --set "data.ranking.test=$work/nowhere.txt"
check "a file that is not there" ended 1 "nowhere.txt: cannot open" "data.ranking"
train 1 kind --set model.kind=ctr
check "another model" ended 2 "model.kind is ctr" "match"
printf '500 1\n' >"$work/bad.txt"
alone "$program" eval "$work/fixed1/ckpt-210.h5" "$config" \
  --set "data.ranking.train=$work/train.txt" --set "data.ranking.test=$work/bad.txt" --set table.dim=16
check "a user that the model does not know" ended 1 "bad.txt:1: column 0" "'500'"

finish
