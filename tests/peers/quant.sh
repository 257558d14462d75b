#!/usr/bin/env bash
# shardbag's pooling of int8, int4 and f16 rows beside FBGEMM's tables for inference on the CPU, in processes that take
# turns (peer, shardbag, peer, shardbag): tests/peers/quant.sh [OPTION...], which are those of pool_peers.py. Needs what
# pool.sh needs, and 8 GB of memory.
exec "$(dirname "$0")/pool.sh" --cases int8,int4,f16 --lengths 40 "$@"
