#!/usr/bin/env bash
# shardbag's exchange beside TorchRec's row-wise one over gloo on this machine: tests/peers/exchange.sh [OPTION...],
# which are those of exchange_peers.py. Needs python3, 10 GB of memory and a build in build/ (or SHARDBAG=PROGRAM);
# torch and TorchRec go into an environment of their own, build/peers/venv (2 GB, once; or PEERS_VENV=FOLDER). Where
# they cannot be had it says so and skips. Not part of the checks: a busy machine's speed is no test.
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

importable() { "$python" -c 'import torchrec' 2>"$folder/import.log"; }

mkdir -p "$folder" || fail "cannot make $folder"
if ! importable; then
  python3 -m venv "$venv" >"$folder/install.log" 2>&1 || skip "no virtual environment: $(tail -n 1 "$folder/install.log")"
  echo "installing torch and TorchRec into $venv"
  "$python" -m pip install -q --no-deps -r "$here/requirements.txt" -r "$here/exchange_requirements.txt" \
    >"$folder/install.log" 2>&1 || skip "TorchRec cannot be installed: $(tail -n 1 "$folder/install.log")"
  importable || skip "TorchRec cannot be imported: $(tail -n 1 "$folder/import.log")"
fi
program=$(readlink -f "$program")
run=("$python" "$here/exchange_peers.py" --program "$program" "$@")
# A network of its own, whose loopback carries nothing else; where that is not allowed, others' bytes are in the count.
# shellcheck disable=SC2016  # the inner shell's own arguments
if unshare -n true 2>/dev/null; then
  exec unshare -n sh -c 'ip link set lo up && exec "$@"' - "${run[@]}"
fi
exec "${run[@]}"
