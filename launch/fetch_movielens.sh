#!/usr/bin/env bash
# Puts MovieLens-100k (ml-100k.inter, .item, .user) into FOLDER: launch/fetch_movielens.sh [FOLDER], default
# build/data/ml-100k. The data comes inside a wheel of PyPI, whose checksum is held; nothing of the wheel runs.
# Without a network, data that is already there is used.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
[ $# -le 1 ] || fail "usage: fetch_movielens.sh [FOLDER]"
folder=${1:-$root/build/data/ml-100k}

wheel_sha256=9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407

data_is_there() {
  [ -d "$folder" ] && (cd "$folder" && sha256sum --quiet -c - >/dev/null 2>&1) <<'SUMS'
4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff  ml-100k.inter
51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532  ml-100k.item
4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972  ml-100k.user
SUMS
}

show_licence() {
  cat <<'NOTE'
MovieLens 100K, collected by the GroupLens Research Project at the University of Minnesota. Its terms: for research;
no endorsement by the University or GroupLens may be stated or implied; publications acknowledge it; it may not be
redistributed without permission, nor used commercially without permission of GroupLens's faculty. No warranty.
  https://files.grouplens.org/datasets/movielens/ml-100k-README.txt
  F. M. Harper, J. A. Konstan: The MovieLens Datasets: History and Context. ACM TiiS 5(4), 2015, 10.1145/2827872
In the form of RecBole's wheel 1.2.1 (RUCAIBox, MIT licence): https://pypi.org/project/recbole/1.2.1/
NOTE
}

fetch() {
  local work=$1
  echo "recbole==1.2.1 --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
  if ! PIP_DISABLE_PIP_VERSION_CHECK=1 timeout -k 5 240 /usr/bin/python3 -m pip download -q --no-input --no-deps --retries 2 \
    --only-binary :all: --require-hashes -r "$work/requirements.txt" -d "$work" >"$work/log" 2>&1 </dev/null; then
    tail -n 3 "$work/log" >&2
    fail "MovieLens-100k could not be fetched from pypi.org (is there a network?); with its three files in $folder none is needed"
  fi
  /usr/bin/python3 - "$work" <<'UNPACK'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/recbole-1.2.1-py3-none-any.whl") as wheel:
    for kind in ("inter", "item", "user"):
        with open(f"{sys.argv[1]}/ml-100k.{kind}", "wb") as file:
            file.write(wheel.read(f"recbole/dataset_example/ml-100k/ml-100k.{kind}"))
UNPACK
  mkdir -p "$folder"
  mv "$work"/ml-100k.inter "$work"/ml-100k.item "$work"/ml-100k.user "$folder"
}

if ! data_is_there; then
  install_packages python3 python3-pip
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  fetch "$work"
  data_is_there || fail "the files in $folder are not the expected ones"
fi
show_licence
echo "data: $folder"
