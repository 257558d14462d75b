#!/usr/bin/env bash
# shardbag's checkpoints beside torch's on this machine: tests/peers/checkpoint.sh [OPTION...], which are those of
# checkpoint_peers.py. Needs python3 and a build in build/ (or SHARDBAG=PROGRAM); torch goes into an environment of its
# own, build/peers/venv (2 GB, once; or PEERS_VENV=FOLDER). Where torch cannot be had it says so and skips. Not part of the checks: a disk's speed is no test.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$here/../../launch/common.sh"
program=${SHARDBAG:-$root/build/shardbag}
[ -x "$program" ] || fail "$program is not there; build it first, or name one by SHARDBAG=PROGRAM"
folder=$root/build/peers
venv=${PEERS_VENV:-$folder/venv}
python=$venv/bin/python

skip() {
  echo "skipped: $*"
  exit 0
}

importable() { "$python" -c 'import torch.distributed.checkpoint' 2>"$folder/import.log"; }

mkdir -p "$folder" || fail "cannot make $folder"
if ! importable; then
  python3 -m venv "$venv" >"$folder/install.log" 2>&1 || skip "no virtual environment: $(tail -n 1 "$folder/install.log")"
  echo "installing torch into $venv"
  "$python" -m pip install -q --no-deps -r "$here/requirements.txt" >"$folder/install.log" 2>&1 ||
    skip "torch cannot be installed: $(tail -n 1 "$folder/install.log")"
  importable || skip "torch cannot be imported: $(tail -n 1 "$folder/import.log")"
fi
files=$(mktemp -d -p "$folder") # on the disk of the build
trap 'rm -rf "$files"' EXIT
"$python" "$here/checkpoint_peers.py" --program "$program" --folder "$files" "$@"
