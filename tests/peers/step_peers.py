"""Steps of tables cut by rows over processes of one thread: TorchRec's row-wise plan over gloo beside shardbag.

26 tables of 10^6 x 64 float32 on 2 processes, row-wise Adagrad, a global batch of 2048: forward, backward and update
with gradients that are given. The two take turns, because the tables of one fill the memory. Printed are medians over
rounds and the ratio TorchRec / shardbag, taken round by round. TorchRec's side is exchange_peers.py's.

Called by step.sh.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile

import exchange_peers


def measure_shardbag(args):
    with tempfile.NamedTemporaryFile("r") as lines:
        sets = {"rows": args.rows, "dim": f"[{args.dim}]", "tables": args.tables, "batch": args.batch // args.ranks,
                "length": f"[{args.length}]", "zipf": f"[{args.zipf}]", "optimizer": "exact_rowwise_adagrad",
                "threads": 1, "rounds": max(1, args.steps // 4), "batches": 4, "warmup": 1, "limit": "false",
                "verify": "false"}
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(args.ranks), args.program, "bench", "pool",
                   "--json", lines.name]
        for name, value in sets.items():
            command += ["--set", f"{name}={value}"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=args.limit,
                       env={**os.environ, "OMP_NUM_THREADS": "1"})
        return json.loads(lines.read().splitlines()[-1])["step_ms"]["median"]


def compare(args):
    rounds = []
    for _ in range(args.rounds):
        rounds.append((exchange_peers.measure_torchrec(args)["ms"], measure_shardbag(args)))
    peer, ours = (statistics.median(side) for side in zip(*rounds))
    ratios = [theirs / own for theirs, own in rounds]
    print(f"{args.length:5d} {args.zipf:5.2f} {peer:10.1f} {ours:9.1f} {statistics.median(ratios):8.2f} "
          f"{min(ratios):6.2f} {max(ratios):6.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="the shardbag to measure")
    for name, default in (("rows", 1000000), ("dim", 64), ("tables", 26), ("batch", 2048), ("ranks", 2), ("steps", 20),
                          ("warmup", 4), ("rounds", 2), ("limit", 600)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--cases", default="1:0,10:0,40:0,1:1.05,10:1.05,40:1.05", help="LENGTH:ZIPF,... (%(default)s)")
    args = parser.parse_args()
    print(f"# {args.tables} tables of {args.rows} x {args.dim} float32, {args.ranks} processes of one thread, global batch "
          f"{args.batch}, row-wise Adagrad; {args.rounds} rounds of {args.steps} steps\n"
          "#            |--- ms a step ----| |- TorchRec / shardbag -|\n"
          "#   L  Zipf   TorchRec  shardbag   median    min    max", flush=True)
    for case in args.cases.split(","):
        length, zipf = case.split(":")
        args.length, args.zipf = int(length), float(zipf)
        compare(args)


if __name__ == "__main__":
    main()
