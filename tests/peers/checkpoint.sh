#!/usr/bin/env bash
# shardbag's checkpoints beside torch's on this machine: tests/peers/checkpoint.sh [OPTION...], which are those of
# checkpoint_peers.py. Needs python3 and a build in build/ (or SHARDBAG=PROGRAM); torch goes into an environment of its
# own, build/peers/venv (2 GB, once; or PEERS_VENV=FOLDER). Where torch cannot be had it says so and skips. Not part of the checks: a disk's speed is no test.
# shellcheck source=tests/peers/venv.bash
. "$(dirname "$0")/venv.bash"
need torch torch.distributed.checkpoint requirements.txt
files=$(mktemp -d -p "$folder") # on the disk of the build
trap 'rm -rf "$files"' EXIT
"$python" "$here/checkpoint_peers.py" --program "$program" --folder "$files" "$@"
