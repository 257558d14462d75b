#!/usr/bin/env bash
# Training steps of tables cut by rows over 2 processes, shardbag's beside TorchRec's over gloo, on this machine:
# tests/peers/step.sh [OPTION...], which are those of step_peers.py. Needs what exchange.sh needs, and skips as it does.
# Each side has its own transport (shared memory, and TCP on loopback); exchange.sh counts the bytes over one.
# shellcheck source=tests/peers/venv.bash
. "$(dirname "$0")/venv.bash"
need "torch and TorchRec" torchrec requirements.txt exchange_requirements.txt
exec "$python" "$here/step_peers.py" --program "$program" "$@"
