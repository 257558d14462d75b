#!/usr/bin/env bash
# shardbag's exchange beside TorchRec's row-wise one over gloo on this machine: tests/peers/exchange.sh [OPTION...],
# which are those of exchange_peers.py. Needs python3, 10 GB of memory and a build in build/ (or SHARDBAG=PROGRAM);
# torch and TorchRec go into an environment of their own, build/peers/venv (2 GB, once; or PEERS_VENV=FOLDER). Where
# they cannot be had it says so and skips. Not part of the checks: a busy machine's speed is no test.
# shellcheck source=tests/peers/venv.bash
. "$(dirname "$0")/venv.bash"
need "torch and TorchRec" torchrec requirements.txt exchange_requirements.txt
run=("$python" "$here/exchange_peers.py" --program "$program" "$@")
# A network of its own, whose loopback carries nothing else; where that is not allowed, others' bytes are in the count.
# shellcheck disable=SC2016  # the inner shell's own arguments
if unshare -n true 2>/dev/null; then
  exec unshare -n sh -c 'ip link set lo up && exec "$@"' - "${run[@]}"
fi
exec "${run[@]}"
