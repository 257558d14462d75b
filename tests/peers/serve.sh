#!/usr/bin/env bash
# `shardbag serve` beside PyTorch serving the same DLRM (configs/dlrm_small.yaml) through a thin HTTP server, on the same
# cores: requests a second that each keeps up with, by `shardbag bench serve`, at batches of 1 and 512:
# tests/peers/serve.sh [OPTION...], which are those of serve_peers.py. Needs a build in build/ (or SHARDBAG=PROGRAM) and
# torch, which it installs into an environment of its own, or skips. Not part of the checks.
# shellcheck source=tests/peers/venv.bash
. "$(dirname "$0")/venv.bash"
need torch torch requirements.txt
exec "$python" "$here/serve_peers.py" --program "$program" --config "$root/configs/dlrm_small.yaml" "$@"
