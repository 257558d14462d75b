#!/usr/bin/env bash
# Training on MovieLens-100k and Mathematics Stack Exchange: shardbag with its reader, from the files, beside torch with the
# same model on batches that are tensors already. tests/peers/train.sh [OPTION...], which are those of train_peers.py:
# --movielens FOLDER and --mathsx FILE say where the data are; a set that is not there is left out.
# Needs what pool.sh needs, and skips as it does.
# shellcheck source=tests/peers/venv.bash
. "$(dirname "$0")/venv.bash"
need torch torch requirements.txt
exec "$python" "$here/train_peers.py" --program "$program" --configs "$root/configs" "$@"
