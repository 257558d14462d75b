#!/usr/bin/env bash
# Text classification: what it learns, on any number of ranks; going on; what cannot be read.
# tests/app/test_text.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_text.sh BUILD_FOLDER"
begin "$1"
config=$root/configs/text.yaml

# Four classes of which two can only be told by the order of their words.
awk 'BEGIN {
  srand(5)
  split("red blue green", colour, " ")
  for (i = 0; i < 1200; i++) {
    c = colour[int(rand() * 3) + 1]
    kind = i % 4
    if (kind == 0) print "cat\tthe " c " cat Sleeps"
    if (kind == 1) print "dog\tA dog of " c " barks"
    if (kind == 2) print "first\tp then q with " c
    if (kind == 3) print "second\tq then p with " c
  }
}' >"$work/all.tsv"
head -n 800 "$work/all.tsv" >"$work/train.tsv"
sed -n 801,1000p "$work/all.tsv" | sed 's/$/\r/' >"$work/valid.tsv" # line ends differ between files
tail -n 200 "$work/all.tsv" | gzip >"$work/test.tsv.gz"

# train RANKS RUN ARGUMENT...: one rank without mpirun, which takes a second or two to end a job that fails.
train() {
  local count=$1 run=$2 start=(launch "$1")
  [ "$count" != 1 ] || start=(alone)
  shift 2
  "${start[@]}" "$program" train "$config" --set "data.text.train=$work/train.tsv" \
    --set "data.text.valid=$work/valid.tsv" --set "data.text.test=$work/test.tsv.gz" --set data.text.buckets=4096 \
    --set table.dim=8 --set train.epochs=6 --set train.global_batch=64 --set "run.dir=$work/$run" "$@"
}
metrics() { grep -E '^(valid|test) ' "$work/out"; }
told() { grep -oE '"event":"train".*"loss":[0-9.e-]+' "$work/$1/metrics.jsonl"; }

train 1 one
check "training" ended 0
check "all classes are told apart" printed '^test accuracy 1\.0000$'
check "valid too" printed '^valid macro_f1 1\.0000$'
check "classes are in the checkpoint" grep -q 'reader/vocabulary/label' <("$program" ckpt ls "$work/one/ckpt-78.h5")
metrics >"$work/one.metrics"
alone "$program" eval "$work/one/ckpt-78.h5" "$config" --set "data.text.train=$work/train.tsv" \
  --set "data.text.valid=$work/valid.tsv" --set "data.text.test=$work/test.tsv.gz" --set data.text.buckets=4096 \
  --set table.dim=8
check "an evaluation of the checkpoint says the same" diff <(metrics) "$work/one.metrics"

train 1 words --set data.text.ngrams=1
check "single words do not know the order" printed '^test accuracy 0\.[5-8]'

# In the mode that promises it, every bit.
for n in 1 2 4; do
  train $n fixed$n --set train.reproducible=true
  check "reproducible on $n ranks" ended 0
  check "the same losses on $n ranks" [ "$(told fixed$n)" = "$(told fixed1)" ]
done
numbers() { grep -E '"event":"(train|eval)"' "$work/$1/metrics.jsonl" | grep -oE '"(loss|logloss|accuracy|macro_f1)":[^,}]*'; }
same() { "$program" ckpt diff "$work/$1" "$work/$2" 2>/dev/null | cut -d: -f1 | grep -vqx config && return 1 || return 0; }
check "the same weights on 4 ranks" same fixed1/ckpt-78.h5 fixed4/ckpt-78.h5

# Stopped after 40 steps, and gone on.
train 2 whole --set checkpoint.every_steps=39
train 2 parts --set checkpoint.every_steps=39 --set train.max_steps=39 --set schedule.decay_steps=78
train 2 whole2 --set schedule.decay_steps=78
train 2 parts --set schedule.decay_steps=78 --resume
check "resumed" ended 0
check "to the same bits" same whole2/ckpt-78.h5 parts/ckpt-78.h5
train 2 hidden --set "eval=[{name: more, path: [$work/valid.tsv, $work/test.tsv.gz]}]" --set 'model.top=[16]' --set model.dropout=0.1 --set 'train.class_weights=[1, 2, 1, 0.5]'
check "a hidden layer, dropout, class weights" ended 0
check "a further set" printed '^more accuracy [01]\.[0-9]+$'

# Predictions: a label each; the same on 3 ranks; without labels in the file.
mine=(--set "data.text.train=$work/train.tsv" --set "data.text.valid=$work/valid.tsv" --set "data.text.test=$work/test.tsv.gz"
  --set data.text.buckets=4096 --set table.dim=8)
printf 'q then p with red\na dog of blue barks\n' >"$work/new"
launch 3 "$program" predict "$work/one/ckpt-78.h5" "$config" "${mine[@]}" --input "$work/new" --no-label --output "$work/lines"
check "predictions" ended 0
check "of the right labels" [ "$(cut -f1,2 "$work/lines" | tr '\t\n' ' ;')" = "0 second;1 dog;" ]
alone "$program" predict "$work/one/ckpt-78.h5" "$config" "${mine[@]}" --split test --format json
check "of a split, as JSON" [ "$(grep -cE '^\{"row":[0-9]+,"label":"(cat|dog|first|second)","probability":[01]\.[0-9]{6}\}$' "$work/out")" = 200 ]

### the binary form
check "there are numbers to compare" [ "$(numbers fixed1 | wc -l)" -gt 6 ]
alone "$program" data convert "$config" "${mine[@]}" --output "$work/text.h5"
check "converts" ended 0
check "and says what" printed ' 800 train, 200 valid, 200 test samples of 0 dense values and 1 features'
for n in 1 2 4; do
  train $n binary$n --set train.reproducible=true --set data.kind=binary --set "data.binary.path=$work/text.h5"
  check "from the binary form on $n ranks" ended 0
  check "the same losses and metrics" [ "$(numbers binary$n)" = "$(numbers fixed$n)" ]
  check "and weights" same fixed$n/ckpt-78.h5 binary$n/ckpt-78.h5
done
train 2 fast --set data.kind=binary --set "data.binary.path=$work/text.h5"
check "also where ranks' number shows" [ "$(numbers fast)" = "$(numbers whole)" ]
alone "$program" predict "$work/one/ckpt-78.h5" "$config" "${mine[@]}" --split test --output "$work/lines"
alone "$program" predict "$work/binary2/ckpt-78.h5" "$config" "${mine[@]}" --split test --set data.kind=binary \
  --set "data.binary.path=$work/text.h5" --output "$work/lines2"
check "labels keep their names" diff <(cut -f1,2 "$work/lines") <(cut -f1,2 "$work/lines2")
check "which are there" grep -q second "$work/lines2"
head -c 20000 "$work/text.h5" >"$work/cut.h5"
train 1 cut --set data.kind=binary --set "data.binary.path=$work/cut.h5"
check "a file that is cut" ended 1 "cut.h5"

### what cannot be read: file, line, column, reason
bad() {
  local name=$1
  shift
  train "${on:-1}" bad --set "data.text.train=$work/bad.tsv"
  check "$name" ended 1 "bad.tsv:$1: column $2" "$3"
  rm -rf "$work/bad"
}
{ head -n 5 "$work/train.tsv"; echo "no tab here"; } >"$work/bad.tsv"
on=2 bad "a line without a text" 6 1 "missing"
{ head -n 3 "$work/train.tsv"; printf 'cat\ta\tb\n'; } >"$work/bad.tsv"
bad "a line with more" 4 2 "goes on"
{ head -n 2 "$work/train.tsv"; printf '\ta b\n'; } >"$work/bad.tsv"
bad "no label" 3 0 "1 to 1000 bytes"
{ head -n 2 "$work/train.tsv"; printf 'cat\ta\0b\n'; } >"$work/bad.tsv"
bad "a NUL byte" 3 1 "NUL"
{ head -n 2 "$work/train.tsv"; printf '%02000d\tx\n' 7; } >"$work/bad.tsv"
bad "a label without end" 3 0 "is long"
{ cat "$work/train.tsv"; echo short; printf 'cat\ta\0b\n'; } >"$work/bad.tsv"
train 2 skipped --set "data.text.train=$work/bad.tsv" --set data.text.on_bad_row=skip
check "skipped" ended 0
check "and counted" printed '^2 bad rows left out; the first: .*bad.tsv:801: column 1'
sed 's/^.*\t/cat\t/' "$work/train.tsv" >"$work/bad.tsv"
train 1 lone --set "data.text.train=$work/bad.tsv" --set 'data.text.valid=""' --set 'data.text.test=""'
check "one label" ended 1 "1 different labels"
train 1 gone --set "data.text.test=$work/nowhere.tsv"
check "a file that is not there" ended 1 "nowhere.tsv: cannot open" "data.text"
printf 'horse\tneighs\n' >"$work/bad.tsv"
alone "$program" eval "$work/one/ckpt-78.h5" "$config" --set "data.text.train=$work/train.tsv" \
  --set 'data.text.valid=""' --set "data.text.test=$work/bad.tsv" --set data.text.buckets=4096 --set table.dim=8
check "a label that the model does not know" ended 1 "bad.tsv:1: column 0" "horse"
train 1 kind --set model.kind=ctr
check "another model" ended 2 "model.kind is ctr" "classify"

### real text
clinc=$root/../shared/data/clinc150
if [ -r "$clinc/train.tsv" ]; then
  launch 2 "$program" train "$config" --set "data.text.train=$clinc/train.tsv" --set "data.text.valid=$clinc/val.tsv" \
    --set "data.text.test=$clinc/test.tsv" --set "run.dir=$work/clinc" --set run.checkpoint=false
  check "CLINC150: accuracy 0.87 or more" awk '/^test accuracy/ { good = $3 >= 0.87 } END { exit !good }' "$work/out"
else
  echo "skipped: CLINC150: ../shared/data/clinc150 is not there"
fi

finish
