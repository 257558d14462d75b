# Sourced by the scripts that run torch beside shardbag: the program, a folder of their own (build/peers) and a Python
# with torch in it. SHARDBAG=PROGRAM and PEERS_VENV=FOLDER name others. Sets root, program, folder, python.
# shellcheck shell=bash
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
. "$here/../../launch/common.sh"
program=${SHARDBAG:-$root/build/shardbag}
[ -x "$program" ] || fail "$program is not there; build it first, or name one by SHARDBAG=PROGRAM"
program=$(readlink -f "$program")
folder=$root/build/peers
venv=${PEERS_VENV:-$folder/venv}
python=$venv/bin/python
mkdir -p "$folder" || fail "cannot make $folder"

skip() {
  echo "skipped: $*"
  exit 0
}

# need NAME MODULE REQUIREMENTS...: makes the environment and installs the files' packages, once, or skips.
need() {
  local name=$1 module=$2 file words=()
  shift 2
  for file in "$@"; do words+=(-r "$here/$file"); done
  "$python" -c "import $module" 2>"$folder/import.log" && return
  python3 -m venv "$venv" >"$folder/install.log" 2>&1 || skip "no virtual environment: $(tail -n 1 "$folder/install.log")"
  echo "installing $name into $venv"
  "$python" -m pip install -q --no-deps "${words[@]}" >"$folder/install.log" 2>&1 ||
    skip "$name cannot be installed: $(tail -n 1 "$folder/install.log")"
  "$python" -c "import $module" 2>"$folder/import.log" ||
    skip "$name cannot be imported: $(tail -n 1 "$folder/import.log")"
}
