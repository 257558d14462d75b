#!/usr/bin/env bash
# shardbag's text classifier beside fastText's (Debian's package `fasttext`) on the same lines: tests/peers/text.sh FOLDER,
# which holds train.tsv, val.tsv and test.tsv of lines "label TAB text", as CLINC150's. Both lower-case nothing but what
# the file has, take single words and then pairs too, and print accuracy on test.tsv and seconds of training. Needs a
# build in build/ (or SHARDBAG=PROGRAM). Where fastText is not there it says so and skips. Not part of the checks.
set -uo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/../../launch/common.sh"
[ $# = 1 ] || fail "usage: text.sh FOLDER"
program=${SHARDBAG:-$root/build/shardbag}
[ -x "$program" ] || fail "$program is not there; build it first, or name one by SHARDBAG=PROGRAM"
data=$(cd "$1" && pwd) || fail "$1: no such folder"
for file in train val test; do [ -r "$data/$file.tsv" ] || fail "$data/$file.tsv cannot be read"; done
if ! command -v fasttext >/dev/null; then
  echo "skipped: fasttext is not installed: apt-get install fasttext"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file in train test; do sed 's/^\([^\t]*\)\t/__label__\1 /' "$data/$file.tsv" >"$work/$file.txt"; done

printf '%-28s %10s %10s\n' "# who, runs of words" accuracy seconds
for ngrams in 1 2; do
  begin=$EPOCHREALTIME
  fasttext supervised -input "$work/train.txt" -output "$work/model" -epoch 25 -lr 0.5 -dim 64 -wordNgrams $ngrams \
    -bucket 262144 -thread 2 -verbose 0 >/dev/null 2>&1 || fail "fasttext failed"
  spent=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
  accuracy=$(fasttext test "$work/model.bin" "$work/test.txt" | awk '$1 == "P@1" { print $2 }')
  printf '%-28s %10s %10s\n' "fastText $ngrams" "$accuracy" "$spent"
  ranks 2 "$program" train "$root/configs/text.yaml" --set "data.text.train=$data/train.tsv" \
    --set "data.text.valid=$data/val.tsv" --set "data.text.test=$data/test.tsv" --set data.text.lowercase=false \
    --set data.text.ngrams=$ngrams --set "run.dir=$work/run$ngrams" --set run.checkpoint=false >"$work/out" 2>&1 ||
    fail "shardbag failed: $(tail -n 1 "$work/out")"
  printf '%-28s %10s %10s\n' "shardbag $ngrams, 2 ranks" "$(awk '/^test accuracy/ { print $3 }' "$work/out")" \
    "$(sed -nE 's/^trained .* steps in ([0-9.]+) s.*/\1/p' "$work/out")"
done
