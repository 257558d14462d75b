#!/usr/bin/env bash
# `shardbag ckpt` as its user meets it. tests/app/test_ckpt.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
# shellcheck source=tests/app/common.bash
. "$(dirname "$0")/common.bash"
[ $# = 1 ] || fail "usage: test_ckpt.sh BUILD_FOLDER"
begin "$1"
cd "$work" || exit 1

# ckpt RANKS WORD...: see launch.
ckpt() {
  local run=(launch "$1")
  [ "$1" != 1 ] || run=(alone)
  shift
  "${run[@]}" "$program" ckpt "$@"
}

cat >small.yaml <<'YAML'
data:
  kind: synthetic
  synthetic: {samples: [1280, 100, 100], dense_count: 4, rows: [500, 300, 7], bag_length: [1, 5, 2]}
table: {dim: 8, optimizer: {name: adagrad, lr: 0.1}}
features: [{name: feature_1, mode: sum}, {name: feature_2, mode: max}]
model: {bottom: [16], top: [16]}
train: {global_batch: 128}
YAML
ranks 2 "$program" train small.yaml --set run.dir=run --progress none >out 2>err || fail "training: $(tail -n 3 err)"
file=run/ckpt-10.h5

### ls
for n in 1 2; do
  ckpt $n ls $file --json ls.json
  check "ls on $n ranks" ended 0
  check "ls: the step and who wrote it" printed '^# run/ckpt-10.h5: .*version [0-9.]+,.* step 10,.* bytes$'
  check "ls: a table" printed '^tables/feature_0/weight f32 500x8 16000$'
  check "ls: each once" test "$(grep -c '^tables/feature_2/state/' out)" = 1
done
check "ls --json" grep -qF '{"event":"array","name":"tables/feature_1/weight","type":"f32","shape":[300,8],"bytes":9600}' ls.json
ckpt 1 ls nowhere.h5
check "ls: no such file" ended 2 "nowhere.h5: cannot open"
ckpt 1 ls small.yaml
check "ls: no checkpoint" ended 1 "small.yaml" "is no checkpoint"
ckpt 1 lsx
check "an unknown part" ended 2 "there is no 'lsx'"
ckpt 1 --help
check "help" printed '^  verify '
ckpt 1 export --help
check "help of a part" printed '^  --rows A:B'

### verify
for n in 1 3; do
  ckpt $n verify $file --json verify.json
  check "verify on $n ranks" ended 0
  check "verify says what it read" printed ' bytes of rows and everything else match their checksums$'
done
check "verify --json" grep -q '"event":"verify",.*"ok":true' verify.json
# flip FILE BYTE: into another one, bad.h5.
flip() {
  cp "$1" bad.h5
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 bad.h5)
  printf "\\x$(printf %02x $((byte ^ 4)))" | dd of=bad.h5 bs=1 seek="$2" conv=notrunc 2>/dev/null
}

### export and import
ckpt 1 export $file rows.npy --table feature_0 --rows 3:9
check "export of rows" ended 0
ckpt 2 export $file table.npy --table tables/feature_0/weight
check "export of a table" ended 0
ckpt 3 export $file all.safetensors --json export.json
check "export of all" ended 0
check "export --json" test "$(grep -c '"event":"export"' export.json)" = "$(wc -l <out)"
ckpt 1 export $file all.npy
check "export: which?" ended 2 "--table"
ckpt 1 export $file x.npy --table feature_9
check "export: no such table" ended 2 "feature_9"
ckpt 1 export $file x.npy --table feature_0 --rows 3:501
check "export: no such rows" ended 2 "has 500 rows"
ckpt 1 export $file x.npy --table feature_0 --rows 9:3
check "export: rows backwards" ended 2 "9:3"
ckpt 1 export $file x.csv
check "export: no such format" ended 2 "x.csv" ".safetensors"
ckpt 2 export $file nowhere/x.npy --table feature_0
check "export: no such folder" ended 1 "nowhere/x.npy"
ckpt 1 import all.safetensors all.h5
check "import of all" ended 0
ckpt 1 verify all.h5
check "import makes a checkpoint" ended 0
ckpt 2 export all.h5 again.safetensors
check "export, import, export" cmp -s all.safetensors again.safetensors

### diff
ckpt 1 diff all.h5 all.h5
check "diff of equals" ended 0
check "diff of equals says so" printed 'arrays are equal$'
ckpt 2 diff $file all.h5 --json diff.json
check "diff" ended 1 "arrays differ"
check "diff names what is missing" printed '^config: only in the first file$'
ranks 1 "$program" train small.yaml --set run.dir=other --set seed=7 --progress none >out 2>err
ckpt 3 diff $file other/ckpt-10.h5
check "diff of two runs" ended 1 "arrays differ"
check "diff says how much" printed '^tables/feature_1/weight: [0-9]+ of 300 rows differ, the first is [0-9]+, the largest difference [0-9.e-]+$'

### what other programs write, where h5py is there
/usr/bin/python3 "$root/tests/python/check_export.py" $file . >out 2>err
code=$?
if [ $code = 77 ] || [ $code = 127 ]; then
  echo "skipped: ckpt with h5py: $(cat out)"
else
  check "numpy reads what is exported" test $code = 0
  ckpt 2 import new.npy new.h5 --table user
  check "import of .npy" ended 0
  ckpt 1 ls new.h5
  check "its name and shape" printed '^tables/user/weight f64 2x3 48$'
  ckpt 1 import new.npy new2.h5
  check "import of .npy without a name" ended 2 "--table"
  for bad in fortran complex; do
    ckpt 1 import $bad.npy bad.h5 --table x
    check "import of $bad.npy" ended 1 "$bad.npy" "can be imported"
  done
  ckpt 1 import lies.safetensors bad.h5
  check "import of lies" ended 1 "user.weight" "do not fit"
  ckpt 1 import foreign.h5 foreign2.h5
  check "import of a cube" ended 1 "cube" "--table"
  ckpt 1 import foreign.h5 foreign2.h5 --table deep/down
  check "import of HDF5" ended 0
  ckpt 1 export foreign2.h5 back.npy --table deep/down
  check "and back" cmp -s back.npy table.npy
  ckpt 1 ls foreign.h5
  check "foreign HDF5 is no checkpoint" ended 1 "foreign.h5" "without shardbag's trailer"
  offset=$(/usr/bin/python3 -c 'import h5py,sys; print(h5py.File(sys.argv[1])["tables/feature_1/weight"].id.get_offset())' $file)
  flip $file $((offset + 100))
  for n in 1 3; do
    ckpt $n verify bad.h5 --json bad.json
    check "verify finds a flipped bit on $n ranks" ended 1 "'tables/feature_1/weight': rows 0 to 299 do not match"
  done
  check "and says so in JSON" grep -q '"ok":false,"message":.*rows 0 to 299' bad.json
fi
flip $file 60
ckpt 1 ls bad.h5
check "a flipped bit in HDF5's part" ended 1 "bad.h5" "it is damaged"
head -c 5000 $file >bad.h5
ckpt 2 verify bad.h5
check "a file cut short" ended 1 "bad.h5" "cut short"

finish
