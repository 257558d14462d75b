#!/usr/bin/env bash
# Training steps of a small DLRM (configs/dlrm_small.yaml) on 2 processes of one thread, shardbag's beside TorchRec's over
# gloo and beside FBGEMM's TBE in one process of 2 threads, on this machine: tests/peers/model.sh [OPTION...], which are
# those of model_peers.py. Needs what exchange.sh needs, and skips as it does.
# shellcheck source=tests/peers/venv.bash
. "$(dirname "$0")/venv.bash"
need "torch and TorchRec" torchrec requirements.txt exchange_requirements.txt
exec "$python" "$here/model_peers.py" --program "$program" --config "$root/configs/dlrm_small.yaml" "$@"
