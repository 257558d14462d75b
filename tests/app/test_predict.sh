#!/usr/bin/env bash
# `shardbag predict`, weights of samples and classes, and further sets of an evaluation, through the command.
# tests/app/test_predict.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_predict.sh BUILD_FOLDER"
begin "$1"

# 600 rows: label, weight, a number, a word, some words.
awk 'BEGIN {
  OFS = "\t"
  for (i = 0; i < 600; i++)
    print (i * 7 % 11 < 4), i % 4 * 0.5, i % 13 ? i % 50 / 10 : "", "u" i % 17, "a" i % 5 " b" i * i % 7
}' >"$work/all.tsv"
cat >"$work/small.yaml" <<YAML
data:
  kind: delimited
  delimited:
    path: "$work/all.tsv"
    split_by: order
    columns:
      - {name: clicked, kind: label}
      - {name: weight, kind: weight}
      - {name: hours, kind: dense, transform: log1p_zscore}
      - {name: user, kind: one_hot}
      - {name: words, kind: multi_hot}
table: {dim: 4, init: normal, init_b: 0.3}
model: {bottom: [8], top: [8]}
train: {global_batch: 64, eval_batch: 100, epochs: 2}
run: {dir: "$work/run"}
YAML
launch 2 "$program" train "$work/small.yaml"
check "trains with weights" ended 0
checkpoint=$work/run/ckpt-16.h5

# predict RANKS NAME ARGUMENT...: into NAME.
predict() {
  local run=(launch "$1") name=$2
  [ "$1" != 1 ] || run=(alone)
  shift 2
  "${run[@]}" "$program" predict "$checkpoint" "$work/small.yaml" --output "$work/$name" "$@"
}
lines() { [ "$(wc -l <"$work/$1")" = "$2" ]; }

for n in 1 2 4; do
  predict $n p$n --input "$work/all.tsv"
  check "predicts on $n ranks" ended 0
done
check "a line a row" lines p1 600
check "rows are counted from 0" [ "$(cut -f1 "$work/p1" | sed -n '1p;600p' | tr '\n' ' ')" = "0 599 " ]
check "the same on 1 and 2 ranks" cmp "$work/p1" "$work/p2"
check "the same on 1 and 4 ranks" cmp "$work/p1" "$work/p4"
check "nothing unfinished is left" [ ! -e "$work/p1.tmp" ]
# shellcheck disable=SC2016  # awk's own
check "probabilities" awk -F '\t' '$2 <= 0 || $2 >= 1 { exit 1 } { if ($2 > max) max = $2; if (!min || $2 < min) min = $2 }
  END { exit max - min < 0.05 }' "$work/p1"

# What is predicted is what is evaluated: the weighted loss of the last 60 rows.
alone "$program" eval "$checkpoint" "$work/small.yaml"
logloss=$(sed -n 's/^test logloss //p' "$work/out")
check "the evaluation's loss" [ "$(paste "$work/all.tsv" "$work/p1" | tail -n 60 |
  awk -F '\t' '{ w += $2; s -= $2 * log($1 ? $7 : 1 - $7) } END { printf "%.4f", s / w }')" = "$logloss" ]

cut -f2- "$work/all.tsv" >"$work/bare.tsv"
predict 2 bare --input "$work/bare.tsv" --no-label
check "without a column of labels" cmp "$work/p1" "$work/bare"
sed 's/^[^\t]*/?/' "$work/all.tsv" | awk -F '\t' 'BEGIN { OFS = FS } { $2 = "heavy"; print }' >"$work/odd.tsv"
predict 1 odd --input "$work/odd.tsv"
check "labels and weights are not read" cmp "$work/p1" "$work/odd"
sed 's/$/\r/' "$work/all.tsv" | gzip >"$work/crlf.tsv.gz"
predict 1 crlf --input "$work/crlf.tsv.gz"
check "packed, with lines that end in CR LF" cmp "$work/p1" "$work/crlf"
mv "$work/all.tsv" "$work/moved.tsv"
predict 1 moved --input "$work/moved.tsv"
check "the training data need not be there" cmp "$work/p1" "$work/moved"
mv "$work/moved.tsv" "$work/all.tsv"
predict 2 split --split test
check "the config's own split" [ "$(cut -f2 "$work/split")" = "$(tail -n 60 "$work/p1" | cut -f2)" ]
predict 1 json --input "$work/all.tsv" --format json
check "JSON" grep -qxE '\{"row":17,"probability":0\.[0-9]{6},"logit":-?[0-9.]+\}' "$work/json"
check "JSON says the same" [ "$(grep -o '"probability":[^,]*' "$work/json" | cut -d: -f2)" = "$(cut -f2 "$work/p1")" ]
alone "$program" predict "$checkpoint" "$work/small.yaml" --input "$work/all.tsv" --json "$work/events.json"
check "an event" grep -qx '{"event":"predict","step":16,"rows":600}' "$work/events.json"
check "to standard output" cmp "$work/p1" "$work/out"

### what is malformed
# broken WORDS...: predicting $work/bad.tsv ends with these, and leaves nothing.
broken() {
  predict 1 bad --input "$work/bad.tsv"
  ended 1 "$work/bad.tsv" "$@" && [ ! -e "$work/bad" ] && [ ! -e "$work/bad.tmp" ]
}
(head -n 5 "$work/all.tsv" && printf '1\t1\t3\tu1\n') >"$work/bad.tsv"
check "a short line" broken :6: "column 4 ('words')" missing
predict 2 bad --input "$work/bad.tsv"
check "on two ranks" ended 1 bad.tsv:6: missing
(head -n 7 "$work/all.tsv" && printf '1\t1\tmany\tu1\ta\n') >"$work/bad.tsv"
check "no number" broken :8: "column 2 ('hours')" many
(head -n 2 "$work/all.tsv" && printf '1\t1\t3\tu\0001\ta\n') >"$work/bad.tsv"
check "a NUL byte" broken :3: "column 3" NUL
predict 1 bad --input "$work/none.tsv"
check "no such input" ended 2 none.tsv
predict 1 bad
check "nothing to predict" ended 2 --input --split
predict 1 bad --input "$work/all.tsv" --format xml
check "no such format" ended 2 xml
predict 1 bad --input "$work/all.tsv" --set "data.delimited.on_bad_row=skip"
check "on_bad_row: skip does no harm" cmp "$work/p1" "$work/bad"
predict 1 nowhere/p --input "$work/all.tsv"
check "no such folder" ended 2 nowhere
printf 'no checkpoint' >"$work/fake.h5"
alone "$program" predict "$work/fake.h5" "$work/small.yaml" --input "$work/all.tsv"
check "no checkpoint" ended 1 fake.h5

for bad in -1 x nan "" 1e99; do
  (head -n 3 "$work/all.tsv" && printf '1\t%s\t3\tu1\ta\n' "$bad") >"$work/bad.tsv"
  alone "$program" train "$work/small.yaml" --set "data.delimited.path=$work/bad.tsv" --set "run.dir=$work/worse"
  check "a weight of '$bad'" ended 1 bad.tsv:4: "column 1 ('weight')" "$bad"
done

### weights, metrics and further sets
# told RUN: losses and metrics, without the clock's share.
told() { grep -E '"event":"(train|eval)"' "$work/$1/metrics.jsonl" | grep -oE '"(loss|auc|logloss|space)":[^,}]*'; }
same() { [ "$(told "$1")" = "$(told "$2")" ] && [ "$(told "$1" | wc -l)" -gt 6 ]; }
head -n 100 "$work/all.tsv" >"$work/early.tsv"
tail -n 60 "$work/all.tsv" >"$work/late.tsv"
sets=(--set 'train.class_weights=[1, 2.5]' --set train.reproducible=true --set train.eval_every=4 --set train.log_every=4)
sets+=(--set "eval=[{name: early, path: $work/early.tsv}, {name: late, path: $work/late.tsv}]")
for n in 1 2 4; do
  launch $n "$program" train "$work/small.yaml" "${sets[@]}" --set "run.dir=$work/w$n"
  check "weights and sets on $n ranks" ended 0
done
check "the same on 1 and 2 ranks" same w1 w2
check "the same on 1 and 4 ranks" same w1 w4
check "a set is the file's rows" [ "$(grep '^late' "$work/out" | tail -n 5 | cut -d' ' -f2-)" = "$(grep '^test' "$work/out" | tail -n 5 | cut -d' ' -f2-)" ]
check "sets on the way" [ "$(grep -c '"space":"early","step":4,' "$work/w1/metrics.jsonl")" = 1 ]
alone "$program" eval "$work/w1/ckpt-16.h5" "$work/small.yaml" "${sets[@]}"
check "eval has them too" printed '^early auc 0\.'

# A row of weight 2 is the row twice, in one batch of all.
awk -F '\t' 'BEGIN { OFS = FS } NR <= 400 { $2 = NR % 3; print }' "$work/all.tsv" >"$work/heavy.tsv"
awk -F '\t' 'BEGIN { OFS = FS } { n = $2; $2 = 1; for (i = 0; i < n; i++) print }' "$work/heavy.tsv" >"$work/twice.tsv"
one=(--set "data.delimited.split=[1, 0, 0]" --set train.global_batch=1000 --set run.checkpoint=false --set train.log_every=1)
one+=(--set 'data.delimited.columns=[{name: l, kind: label}, {name: w, kind: weight}, {name: u, kind: one_hot, index: 3, mapping: hash, rows: 50}]')
for run in heavy twice; do
  alone "$program" train "$work/small.yaml" "${one[@]}" --set "data.delimited.path=$work/$run.tsv" --set "run.dir=$work/$run"
done
losses() { grep '"event":"train"' "$work/$1/metrics.jsonl" | grep -o '"loss":0\.[0-9]\{5\}'; }
check "weights are repetitions" [ "$(losses heavy)" = "$(losses twice)" ]
check "of both epochs" [ "$(losses heavy | wc -l)" = 2 ]

alone "$program" data convert "$work/small.yaml" --output "$work/all.h5"
alone "$program" train "$work/small.yaml" "${sets[@]:0:8}" --set "run.dir=$work/plain"
alone "$program" train "$work/small.yaml" "${sets[@]:0:8}" --set data.kind=binary --set "data.binary.path=$work/all.h5" --set "run.dir=$work/binary"
check "weights are converted" same plain binary

alone "$program" train "$work/small.yaml" --set train.patience=1 --set train.patience_metric=logloss \
  --set train.eval_every=1 --set train.epochs=60 --set "run.dir=$work/patient" --set table.optimizer.lr=1
check "patience by a metric that shall fall" printed 'trained .*valid logloss grows no less'
alone "$program" train "$work/small.yaml" --set train.patience_metric=loglos
check "no such metric" ended 1 "train.patience_metric" "'logloss'"
alone "$program" train "$work/small.yaml" --set 'train.class_weights=[1, 2, 3]'
check "three classes" ended 2 "3 class weights" "2 classes"
alone "$program" train "$work/small.yaml" --set "eval=[{name: test, path: $work/late.tsv}]"
check "a set called test" ended 2 "'test'"
launch 2 "$program" train "$work/small.yaml" --set "eval=[{name: gone, path: $work/gone.tsv}]" --set "run.dir=$work/gone"
check "a set that is not there" ended 1 gone.tsv
finish
