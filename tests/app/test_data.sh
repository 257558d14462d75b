#!/usr/bin/env bash
# Criteo's layout and the binary form through the command: what a config gives on any number of ranks, what a conversion
# gives beside its source, and what is malformed. tests/app/test_data.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_data.sh BUILD_FOLDER"
begin "$1"

# 1,200 rows in Criteo's columns, with missing values, in two files of which one is packed.
awk 'BEGIN {
  for (i = 0; i < 1200; i++) {
    row = (i * 7 % 11 < 4)
    for (c = 1; c <= 13; c++) row = row "\t" ((i + c) % 7 ? i * c % 50 - 2 : "")
    for (c = 1; c <= 26; c++) row = row "\t" ((i + c) % 13 ? sprintf("%08x", i * i * c % 97) : "")
    print row
  }
}' >"$work/all.tsv"
head -n 700 "$work/all.tsv" >"$work/a.tsv"
tail -n 500 "$work/all.tsv" | gzip >"$work/b.tsv.gz"
cat >"$work/small.yaml" <<YAML
data:
  kind: criteo
  criteo: {path: ["$work/a.tsv", "$work/b.tsv.gz"], min_count: 2, multi_hot: 2, shuffle_window: 256}
  binary: {path: "$work/all.h5"}
table: {dim: 4}
model: {bottom: [8], top: [8]}
train: {global_batch: 64, log_every: 1, epochs: 2, reproducible: true}
YAML

# train RANKS RUN ARGUMENT...
train() {
  local count=$1 run=$2
  shift 2
  launch "$count" "$program" train "$work/small.yaml" --set "run.dir=$work/$run" "$@"
}
# told RUN: losses and metrics, without the clock's share.
told() {
  grep -E '"event":"(train|eval)"' "$work/$1/metrics.jsonl" | grep -oE '"(loss|auc|logloss)":[^,}]*'
}
same_metrics() { [ "$(told "$1")" = "$(told "$2")" ] && [ "$(told "$1" | wc -l)" -gt 30 ]; }
# same_weights RUN RUN: at the end nothing but the config differs.
same_weights() {
  "$program" ckpt diff "$work/$1/ckpt-30.h5" "$work/$2/ckpt-30.h5" >"$work/out" 2>"$work/err"
  [ "$(cut -d: -f1 "$work/out")" = config ]
}

for n in 1 2 4; do
  train $n text$n
  check "Criteo's layout on $n ranks" ended 0
done
check "the same weights on 1 and 2 ranks" same_weights text1 text2
check "the same weights on 1 and 4 ranks" same_weights text1 text4
check "the same metrics" same_metrics text1 text4
train 2 one --set "data.criteo.path=$work/all.tsv"
check "one file or two, the same" same_weights text2 one

### the binary form
alone "$program" data convert "$work/small.yaml" --output "$work/all.h5" --json "$work/said.json"
check "converts" ended 0
check "says what it wrote" printed 'all\.h5: 960 train, 120 valid, 120 test samples of 13 dense values and 26 features, [0-9]+ bytes$'
check "and as JSON" grep -qE '^\{"event":"convert",.*"train":960,"valid":120,"test":120,"bad_rows":0,"bytes":[0-9]+\}$' "$work/said.json"
for n in 1 2; do
  train $n binary$n --set data.kind=binary
  check "trains from it on $n ranks" ended 0
  check "to the same losses on $n ranks" same_metrics text$n binary$n
  check "and the same weights on $n ranks" same_weights text$n binary$n
done
train 2 fast --set train.reproducible=false
train 2 fastbinary --set train.reproducible=false --set data.kind=binary
check "the same losses also where ranks' number shows" same_metrics fast fastbinary
launch 3 "$program" eval "$work/text1/ckpt-30.h5" "$work/small.yaml" --set data.kind=binary
check "a model of the text on the binary form" ended 0
check "to the same metrics" printed "^test auc $(grep '"test"' "$work/text1/metrics.jsonl" | grep -oE '"auc":[0-9.]{6}' | cut -d: -f2)"
alone "$program" ckpt verify "$work/all.h5"
check "ckpt verify knows it" ended 0
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
  check "h5py opens it" /usr/bin/python3 - "$work/all.h5" <<'PYTHON'
import h5py, numpy, sys
file = h5py.File(sys.argv[1])
assert file.attrs["samples_format"] == 2 and file.attrs["form"] in ("samples", b"samples") and file.attrs['feature_count'] == 26
assert file['labels/train'].shape == (960,) and file['dense/test'].shape == (120, 13)
values = file['features/C3/values/train']
assert values.shape == (960, 2) and values.dtype == numpy.int32
assert values[:].max() < file['features/C3'].attrs['rows'] and file['features/C3'].attrs['bag_length'] == 2
assert bytes(file['reader/vocabulary/C3'][:8]) == b'SBVOCAB1'
PYTHON
fi
train 2 half --set train.max_steps=12
train 2 half --resume --set data.kind=binary
check "a run that was begun on the text goes on from the binary form" ended 0
check "and ends as one on the text alone" same_weights text2 half
alone "$program" data convert "$work/small.yaml" --output "$work/valid.h5" --split valid
check "one split alone" ended 0
check "and no other" printed ' 0 train, 120 valid, 0 test samples'

### what is wrong with a conversion
leftovers() { find "$work" -name 'no.h5*' | grep -q .; }
alone "$program" data convert "$work/small.yaml"
check "no output" ended 2 "--output FILE is missing"
alone "$program" data convert "$work/small.yaml" --output "$work/nowhere/no.h5"
check "no folder" ended 2 "nowhere/no.h5: cannot be written" "No such file or directory"
alone "$program" data convert "$work/small.yaml" --output "$work/no.h5" --split some
check "no such split" ended 2 "--split is train, valid or test, not 'some'"
launch 2 "$program" data convert "$work/small.yaml" --output "$work/no.h5"
check "two ranks" ended 2 "one process converts"
sed '1000s/\t[0-9a-f]*$/\tzzz/' "$work/all.tsv" >"$work/bad.tsv"
alone "$program" data convert "$work/small.yaml" --set "data.criteo.path=$work/bad.tsv" --output "$work/no.h5"
check "a bad row" ended 1 "bad.tsv:1000: column 39 ('C26'): not a category: 'zzz'"
check "nothing is left" eval '! leftovers'
small=$work/tmpfs
mkdir "$small"
if mount -t tmpfs -o size=100k none "$small" 2>/dev/null; then
  for size in 100k 500k 900k; do # too small for the samples, for all that is kept meanwhile, for the file beside it
    mount -o "remount,size=$size" "$small"
    alone "$program" data convert "$work/small.yaml" --output "$small/no.h5"
    check "a full disk of $size" ended 1 "no.h5" "No space left on device"
    check "nothing is left on it" test -z "$(ls "$small")"
  done
  mount -o remount,size=4m "$small"
  alone "$program" data convert "$work/small.yaml" --output "$small/no.h5"
  check "one that is large enough" ended 0
  umount "$small"
else
  echo "skipped: a full disk (no right to mount)"
fi
head -c 60000 "$work/all.h5" >"$work/cut.h5"
train 2 cut --set data.kind=binary --set "data.binary.path=$work/cut.h5"
check "a file that is cut" ended 1 "cut.h5"
train 2 gone --set data.kind=binary --set "data.binary.path=$work/gone.h5"
check "a file that is missing" ended 1 "gone.h5" "No such file"
train 2 model --set data.kind=binary --set "data.binary.path=$work/text1/ckpt-30.h5"
check "a model's checkpoint" ended 1 "ckpt-30.h5: holds no samples"

### malformed rows
printf '1\t2\n' >"$work/short.tsv"
train 2 short --set "data.criteo.path=[$work/a.tsv, $work/short.tsv]"
check "a short row in the second file" ended 1 "short.tsv:1: column 2 ('I2'): missing, the row has 2 fields; exactly 40"
train 2 skipped --set "data.criteo.path=[$work/a.tsv, $work/short.tsv, $work/b.tsv.gz]" --set data.criteo.on_bad_row=skip
check "or it is left out" ended 0
check "counted and named" printed "^1 bad row left out; the first: .*short.tsv:1: column 2 \('I2'\): missing"
check "also in the log" grep -qE '"event":"start",.*"bad_rows":1' "$work/skipped/metrics.jsonl"
check "and nothing else changes" same_weights text2 skipped
head -c 3000 "$work/b.tsv.gz" >"$work/cut.tsv.gz"
train 2 cutgz --set "data.criteo.path=[$work/a.tsv, $work/cut.tsv.gz]"
check "a packed file that is cut" ended 1 "cut.tsv.gz: reading failed after line " "the compressed file is cut short"
train 2 missing --set "data.criteo.path=[$work/a.tsv, $work/none.tsv]"
check "a missing file" ended 1 "none.tsv: cannot open" "data.criteo.path"
train 2 lists --set 'data.criteo.rows=[1, 2]'
check "rows for two categories" ended 2 "'data.criteo.rows'" "one for each of the 26 categories"
train 2 hash --set data.criteo.mapping=hash
check "a hash without rows" ended 2 "mapping hash needs 'rows'"

### the shipped configs
launch 2 "$program" train "$root/configs/criteo_multihot.yaml" --set "run.dir=$work/multihot" --set 'data.synthetic.samples=[4096, 0, 512]'
check "configs/criteo_multihot.yaml" ended 0
launch 2 "$program" train "$root/configs/criteo_multihot.yaml" --set "run.dir=$work/multihot2" --set data.kind=criteo \
  --set "data.criteo.path=$work/all.tsv"
check "on a file in Criteo's layout" ended 0
real=$root/../shared/data
if [ -e "$real/criteo1tb_1000/criteo_day0_head1000.tsv" ]; then
  launch 2 "$program" train "$root/configs/criteo.yaml" --set "run.dir=$work/head" \
    --set "data.criteo.path=$real/criteo1tb_1000/criteo_day0_head1000.tsv"
  check "configs/criteo.yaml on Criteo's first 1,000 rows" ended 0
  launch 2 "$program" train "$root/configs/criteo.yaml" --set "run.dir=$work/mathsx" --set run.checkpoint=false \
    --set "data.criteo.path=$real/mathsx/mathsx_criteo100k.tsv.gz"
  auc=$(sed -n 's/^test auc //p' "$work/out")
  check "configs/criteo.yaml on Mathematics Stack Exchange: test auc $auc" awk -v auc="${auc:-0}" 'BEGIN { exit !(auc >= 0.79) }'
else
  echo "skipped: real data in Criteo's layout (no $real)"
fi

finish
