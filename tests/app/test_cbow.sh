#!/usr/bin/env bash
# CBOW: word vectors of a text whose structure is known, and of real text; neighbours; going on; what cannot be read.
# tests/app/test_cbow.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_cbow.sh BUILD_FOLDER"
begin "$1"
config=$root/configs/cbow.yaml

# Lines of one of five topics, each with eight words of its own; "the" is everywhere.
awk 'BEGIN {
  srand(4)
  for (l = 0; l < 1500; l++) {
    t = int(rand() * 5)
    line = ""
    for (i = 0; i < 7; i++) line = line (rand() < 0.4 ? "The " : "topic" t "_" int(rand() * 8) " ")
    print line
  }
}' >"$work/text"

# train RANKS RUN ARGUMENT...: one rank without mpirun, which takes a second or two to end a job that fails.
train() {
  local count=$1 run=$2 start=(launch "$1")
  [ "$count" != 1 ] || start=(alone)
  shift 2
  "${start[@]}" "$program" train "$config" --set "data.corpus.path=$work/text" --set table.dim=16 --set train.epochs=5 \
    --set train.global_batch=256 --set data.corpus.subsample=0.05 --set 'data.corpus.split=[0.9, 0, 0.1]' \
    --set train.log_every=20 --set "run.dir=$work/$run" "$@"
}
last() { basename "$(printf '%s\n' "$work/$1"/ckpt-*.h5 | sort -t- -k2n | tail -n 1)"; }
told() { grep -oE '"event":"train".*"loss":[0-9.e-]+' "$work/$1/metrics.jsonl"; }
numbers() { grep -E '"event":"(train|eval)"' "$work/$1/metrics.jsonl" | grep -oE '"(loss|accuracy)":[^,}]*'; }
same() { "$program" ckpt diff "$work/$1/$(last "$1")" "$work/$2/$(last "$2")" 2>/dev/null | cut -d: -f1 | grep -vqx config && return 1 || return 0; }

for n in 1 2 4; do
  train $n fixed$n --set train.reproducible=true
  check "reproducible on $n ranks" ended 0
  check "the same losses on $n ranks" [ "$(told fixed$n)" = "$(told fixed1)" ]
  grep '^test' "$work/out" >"$work/metrics$n"
  check "the same metrics on $n ranks" diff "$work/metrics1" "$work/metrics$n"
done
check "the same weights on 4 ranks" same fixed1 fixed4
check "words are guessed from those around" awk '$2 == "accuracy" { good = $3 > 0.2 } END { exit !good }' "$work/metrics1"

# neighbours of every word are the other seven of its topic.
file=$work/fixed1/$(last fixed1)
for word in topic0_0 topic3_5; do
  launch 2 "$program" neighbours "$file" $word --k 7 --json "$work/near.jsonl"
  check "neighbours of $word" [ "$(grep -cE "^${word%_*}_[0-7] 0\.[0-9]+$" "$work/out")" = 7 ]
done
check "as JSON too" [ "$(grep -c '"event":"neighbour","word":"topic' "$work/near.jsonl")" = 14 ]
cp "$work/out" "$work/two"
alone "$program" neighbours "$file" topic3_5 --k 7
check "on one rank the same" diff "$work/out" "$work/two"
alone "$program" neighbours "$file" nowhere
check "a word that is not there" ended 2 "'nowhere' is not among the 41 words"
alone "$program" neighbours "$file" the --table target
check "a table without words" ended 2 "'target' has no vocabulary"
alone "$program" neighbours "$work/none.h5" the
check "a file that is not there" ended 2 "none.h5: cannot open"

alone "$program" predict "$file" "$config" --set "data.corpus.path=$work/text" --set table.dim=16 --split train
check "nothing to predict" ended 1 "shardbag neighbours"

# Stopped, and gone on.
train 2 whole
train 2 parts --set train.max_steps=60
head -n 50 "$work/text" >"$work/few"
train 2 parts --resume --set "eval=[{name: few, path: $work/few}]"
check "resumed" ended 0
check "a further text" printed '^few accuracy 0\.[0-9]+$'
check "to the same bits" same whole parts

### the binary form
check "there are numbers to compare" [ "$(numbers fixed1 | wc -l)" -gt 5 ]
alone "$program" data convert "$config" --set "data.corpus.path=$work/text" --set data.corpus.subsample=0.05 \
  --set 'data.corpus.split=[0.9, 0, 0.1]' --output "$work/text.h5"
check "converts" ended 0
for n in 1 2 4; do
  train $n binary$n --set train.reproducible=true --set data.kind=binary --set "data.binary.path=$work/text.h5"
  check "from the binary form on $n ranks" ended 0
  check "the same losses and metrics" [ "$(numbers binary$n)" = "$(numbers fixed$n)" ]
  check "and weights" same fixed$n binary$n
done
train 2 fast --set data.kind=binary --set "data.binary.path=$work/text.h5"
check "also where ranks' number shows" [ "$(numbers fast)" = "$(numbers whole)" ]
alone "$program" neighbours "$work/binary2/$(last binary2)" topic3_5 --k 7
check "words keep their names" diff "$work/out" "$work/two"
head -c 9000 "$work/text.h5" >"$work/cut.h5"
train 1 cut --set data.kind=binary --set "data.binary.path=$work/cut.h5"
check "a file that is cut" ended 1 "cut.h5"

### what cannot be read: file, line, column, reason
printf 'a b\r\nc d\0e f\n' >"$work/bad.txt"
train 2 nul --set "data.corpus.path=$work/bad.txt"
check "a NUL byte" ended 1 "bad.txt:2: column 4" "NUL"
{ printf 'a b\n'; head -c 2000 /dev/zero | tr '\0' x; } >"$work/bad.txt"
train 1 huge --set "data.corpus.path=$work/bad.txt"
check "a word without end" ended 1 "bad.txt:2: column 1001" "goes on and on"
train 2 skipped --set "data.corpus.path=[$work/text, $work/bad.txt]" --set data.corpus.on_bad_row=skip
check "skipped" ended 0
check "and counted" printed '^1 bad row left out; the first: .*bad.txt:2: column 1001'
echo "one one one one one" >"$work/bad.txt"
train 1 poor --set "data.corpus.path=$work/bad.txt"
check "one word" ended 1 "1 different words"
train 1 gone --set "data.corpus.path=$work/nowhere"
check "a file that is not there" ended 1 "nowhere: cannot open" "data.corpus.path"

### real text
clinc=$root/../shared/data/clinc150/train.tsv
if [ -r "$clinc" ]; then
  cut -f2 "$clinc" >"$work/clinc"
  launch 2 "$program" train "$config" --set "data.corpus.path=$work/clinc" --set train.epochs=8 --set "run.dir=$work/real"
  check "CLINC150's text" ended 0
  file=$work/real/$(last real)
  # near WORD OTHER...: one of the others is among the nearest five.
  near() {
    alone "$program" neighbours "$file" "$1" --k 5
    shift
    local word
    for word; do cut -d' ' -f1 "$work/out" | grep -qx "$word" && return; done
    return 1
  }
  check "languages" near spanish french italian german japanese russian
  check "meals" near pizza pasta spaghetti lasagna chicken soup eggs pork
else
  echo "skipped: CLINC150: ../shared/data/clinc150 is not there"
fi

finish
