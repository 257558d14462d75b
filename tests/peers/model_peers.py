"""Training steps of a small DLRM: TorchRec row-wise over gloo, and FBGEMM's TBE, beside `shardbag bench step`.

26 tables of 10^6 rows, row-wise Adagrad, rows by Zipf 1.05; bottom MLP 13-512-256-64-D, the dot interaction, top MLP
512-256-1, SGD; a global batch of 2048. shardbag and TorchRec have 2 processes of one thread, FBGEMM one of 2. Batches
are drawn before, four that come in turn; with --batches 0 shardbag reads new ones from a binary file beside its steps.
All take turns, ROUNDS times.
Printed are medians over rounds, in samples a second, and the ratios shardbag / peer, taken round by round; and of
shardbag's steps their rate over its dense part's alone, and of that over its matrix products' alone.

Called by model.sh; started again by itself, as `model_peers.py worker ...`, once a process of a peer.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import exchange_peers
import pool_peers

DENSE = 13
NAMES = ("rows", "dim", "tables", "batch", "length", "zipf", "steps", "warmup", "ranks")


# ---- a peer, in a process of its own ----------------------------------------------------------------------------------


def create_layers(torch, args):
    def mlp(widths):
        layers = []
        for into, out in zip(widths, widths[1:]):
            layers += [torch.nn.Linear(into, out), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            vectors = args.tables + 1
            self.pairs = torch.tril_indices(vectors, vectors, -1)
            self.bottom = mlp([DENSE, 512, 256, 64, args.dim])
            self.top = mlp([args.dim + self.pairs.shape[1], 512, 256, 1])

        def forward(self, values, pooled):
            own = self.bottom(values)
            vectors = torch.cat([own.unsqueeze(1), pooled.view(len(own), args.tables, args.dim)], 1)
            products = torch.bmm(vectors, vectors.transpose(1, 2))
            return self.top(torch.cat([own, products[:, self.pairs[0], self.pairs[1]]], 1)).squeeze(1)

    return Layers()


def time_steps(torch, args, samples, layers, pool, batches, barrier):
    optimizer = torch.optim.SGD(layers.parameters(), lr=0.01)
    values, labels = torch.rand(samples, DENSE), torch.randint(0, 2, (samples,)).float()
    loss_of = torch.nn.BCEWithLogitsLoss()
    times = []
    for step in range(-args.warmup, args.steps):
        barrier()
        start = time.perf_counter()
        optimizer.zero_grad()
        loss_of(layers(values, pool(batches[step % len(batches)])), labels).backward()
        optimizer.step()
        if step >= 0:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def work_torchrec(args):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port), RANK=str(args.rank),
                      WORLD_SIZE=str(args.ranks), LOCAL_RANK=str(args.rank), LOCAL_WORLD_SIZE=str(args.ranks),
                      GLOO_SOCKET_IFNAME="lo")
    torch, torchrec = exchange_peers.import_torchrec()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=args.rank, world_size=args.ranks)
    bags = exchange_peers.create_bags(torch, torchrec, args)
    batches = [exchange_peers.draw(torch, torchrec, args, args.rank, number) for number in range(4)]
    layers = torch.nn.parallel.DistributedDataParallel(create_layers(torch, args))
    ms = time_steps(torch, args, args.batch // args.ranks, layers, lambda b: bags(b).wait().values(), batches,
                    torch.distributed.barrier)
    torch.distributed.barrier()
    return ms if args.rank == 0 else None


def work_fbgemm(args):
    torch = pool_peers.import_torch(args.ranks)
    args.optimizer, args.mode = "EXACT_ROWWISE_ADAGRAD", "sum"
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    tables = SplitTableBatchedEmbeddingBagsCodegen(
        embedding_specs=[(args.rows, args.dim, EmbeddingLocation.HOST, ComputeDevice.CPU)] * args.tables,
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD, learning_rate=0.01, pooling_mode=PoolingMode.SUM,
        device=torch.device("cpu"))
    for weight in tables.split_embedding_weights():
        weight.uniform_(-0.001, 0.001)
    draw = pool_peers.Rows(args.rows, args.zipf).draw
    offsets = torch.arange(args.tables * args.batch + 1) * args.length
    batches = [torch.from_numpy(draw(args.tables * args.batch * args.length)) for _ in range(4)]
    return time_steps(torch, args, args.batch, create_layers(torch, args), lambda b: tables(b, offsets), batches,
                      lambda: None)


def worker(args):
    ms = work_torchrec(args) if args.peer == "torchrec" else work_fbgemm(args)
    if ms is not None:
        print(json.dumps({"ms": ms}), flush=True)


# ---- the sides --------------------------------------------------------------------------------------------------------


def measure_peer(args, peer):
    processes = args.ranks if peer == "torchrec" else 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word for name in NAMES for word in (f"--{name}", str(getattr(args, name)))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.ranks // processes), "THP_MEM_ALLOC_ENABLE": "1"}
    workers = [
        subprocess.Popen([sys.executable, __file__, "worker", "--peer", peer, "--port", str(port), "--rank", str(rank),
                          *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for rank in range(processes)
    ]
    outputs = [worker.communicate(timeout=args.limit) for worker in workers]
    for worker, (_, errors) in zip(workers, outputs):
        if worker.returncode:
            sys.exit(f"{peer} failed: {errors.decode()}")
    return 1e3 * args.batch / json.loads(outputs[0][0].splitlines()[-1])["ms"]


def make_data(args, folder):
    """The config's samples as a binary file; kept in the folder, one a shape."""
    data = Path(folder) / f"{args.length}.h5"
    if not data.exists():
        lists = {"rows": args.rows, "bag_length": args.length}
        sets = {f"data.synthetic.{name}": [value] * args.tables for name, value in lists.items()}
        sets["data.synthetic.zipf"] = args.zipf
        words = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
        subprocess.run([args.program, "data", "convert", args.config, "--output", data, *words], check=True,
                       stdout=subprocess.DEVNULL, timeout=args.limit)
    return data


def measure_shardbag(args, data):
    with tempfile.NamedTemporaryFile("r") as lines:
        sets = {"data.kind": "binary", "data.binary.path": data, "table.dim": args.dim,
                "train.global_batch": args.batch, "bench.steps": args.steps, "bench.rounds": 1,
                "bench.warmup": args.warmup, "bench.batches": args.batches}
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(args.ranks), args.program, "bench", "step",
                   args.config, "--json", lines.name]
        for name, value in sets.items():
            command += ["--set", f"{name}={value}"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=args.limit,
                       env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        said = [json.loads(line) for line in lines.read().splitlines()]
    rates = {line["name"]: line["samples_per_s"] for line in said if line["kind"] == "rate"}
    return rates["pipelined"], rates["the dense part alone"], rates["its matrix products alone"]


def compare(args, folder):
    data, rounds = make_data(args, folder), []
    for _ in range(args.rounds):
        rounds.append((measure_peer(args, "torchrec"), measure_peer(args, "fbgemm"), *measure_shardbag(args, data)))

    def median(pick):
        return statistics.median(pick(*one) for one in rounds)

    print(f"{args.dim:5d} {args.length:3d} {median(lambda t, f, s, d, p: t):9.0f} {median(lambda t, f, s, d, p: f):9.0f} "
          f"{median(lambda t, f, s, d, p: s):9.0f} {median(lambda t, f, s, d, p: s / t):9.2f} "
          f"{median(lambda t, f, s, d, p: s / f):9.2f} {median(lambda t, f, s, d, p: s / d):9.2f} "
          f"{median(lambda t, f, s, d, p: d / p):9.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="compare", choices=["compare", "worker"])
    parser.add_argument("--program", help="the shardbag to measure")
    parser.add_argument("--config", help="its model")
    parser.add_argument("--peer", choices=["torchrec", "fbgemm"], help=argparse.SUPPRESS)
    for name, default in (("rows", 1000000), ("dim", 16), ("tables", 26), ("batch", 2048), ("ranks", 2), ("length", 1),
                          ("steps", 20), ("warmup", 4), ("rounds", 2), ("limit", 600), ("port", 0), ("rank", 0),
                          ("batches", 4)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--zipf", type=float, default=1.05, help="(%(default)s)")
    parser.add_argument("--cases", default="16:1,64:1,64:10", help="DIM:LENGTH,... (%(default)s)")
    args = parser.parse_args()
    if args.what == "worker":
        worker(args)
        return
    print(f"# DLRM, {args.tables} tables of {args.rows} rows, Zipf {args.zipf:g}, global batch {args.batch}: TorchRec and "
          f"shardbag on {args.ranks} processes, FBGEMM on {args.ranks} threads; {args.rounds} rounds of {args.steps} steps\n"
          "#         |----- samples a second -----| |- shardbag over -| |-- shardbag's --|\n"
          "#   D   L  TorchRec    FBGEMM  shardbag  TorchRec    FBGEMM  of dense  of sgemm", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in args.cases.split(","):
            args.dim, args.length = map(int, case.split(":"))
            compare(args, folder)


if __name__ == "__main__":
    main()
