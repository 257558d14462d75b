#!/usr/bin/env bash
# shardbag's pooling and training of rows beside FBGEMM's TBE and torch's embedding_bag in one process on this machine:
# tests/peers/pool.sh [OPTION...], which are those of pool_peers.py. Needs python3, 21 GB of memory and a build in build/
# (or SHARDBAG=PROGRAM); the peers go into an environment of their own, build/peers/venv (2 GB, once; or
# PEERS_VENV=FOLDER). Where they cannot be had it says so and skips. Not part of the checks: a busy machine's speed is
# no test.
# shellcheck source=tests/peers/venv.bash
. "$(dirname "$0")/venv.bash"
need "torch, FBGEMM and TorchRec" torchrec requirements.txt exchange_requirements.txt
exec "$python" "$here/pool_peers.py" --program "$program" "$@"
