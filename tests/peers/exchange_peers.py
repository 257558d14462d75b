"""TorchRec's row-wise embedding bags over gloo beside shardbag's exchange, in the same rounds: bytes and time of a step.

26 tables of 10^6 x 64 float32 on 2 processes of one thread, row-wise Adagrad, a global batch of 2048. A step is forward,
backward and update of the tables; gradients are given, there is no model. Both sides talk over TCP on loopback, whose
own counter tells the bytes: TorchRec's are read around its steps, shardbag's are the difference of two runs that differ
by STEPS steps. In every round the two take turns, one after the other, because the tables of one fill the memory.

Called by exchange.sh, in a network of its own where that can be had; started again by itself, as
`exchange_peers.py worker ...`, once a measurement of TorchRec.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def loopback_bytes():
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    sys.exit("no loopback interface in /proc/net/dev")


# ---- TorchRec, in one of `ranks` processes ----------------------------------------------------------------------------


def import_torchrec():
    """FBGEMM's CPU wheel finds an empty cpuinfo_isa in libc10.so and takes its slowest kernels, unless libtorch.so is
    there before it."""
    torch_folder = Path(importlib.util.find_spec("torch").origin).parent
    ctypes.CDLL(str(torch_folder / "lib" / "libtorch.so"), mode=ctypes.RTLD_GLOBAL)
    import torch
    import torchrec

    return torch, torchrec


def create_bags(torch, torchrec, args):
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
    from torchrec.distributed.types import ShardingEnv

    tables = [
        torchrec.EmbeddingBagConfig(
            name=f"t{t}", embedding_dim=args.dim, num_embeddings=args.rows, feature_names=[f"f{t}"]
        )
        for t in range(args.tables)
    ]
    module = torchrec.EmbeddingBagCollection(tables=tables, device=torch.device("meta"))
    sharder = EmbeddingBagCollectionSharder(
        fused_params={"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": 0.01}
    )
    plan = construct_module_sharding_plan(
        module,
        per_param_sharding={table.name: row_wise(compute_kernel="fused") for table in tables},
        sharder=sharder,
        local_size=args.ranks,
        world_size=args.ranks,
        device_type="cpu",
    )
    env = ShardingEnv.from_process_group(torch.distributed.group.WORLD)
    return sharder.shard(module, plan, env, torch.device("cpu"))


def draw(torch, torchrec, args, rank, number):
    """A batch of this rank: rows by Zipf, the popular ones anywhere."""
    import numpy as np

    count = args.tables * (args.batch // args.ranks) * args.length
    random = np.random.default_rng([1, rank, number])
    if args.zipf == 0:
        rows = random.integers(0, args.rows, count)
    else:
        weights = np.cumsum(np.arange(1, args.rows + 1, dtype=np.float64) ** -args.zipf)
        rows = np.searchsorted(weights, random.random(count) * weights[-1])
        rows = np.random.default_rng(7).permutation(args.rows)[np.minimum(rows, args.rows - 1)]
    lengths = torch.full((args.tables * (args.batch // args.ranks),), args.length, dtype=torch.int64)
    keys = [f"f{t}" for t in range(args.tables)]
    return torchrec.KeyedJaggedTensor.from_lengths_sync(keys, torch.from_numpy(rows.astype(np.int64)), lengths)


def worker(args):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port), RANK=str(args.rank),
                      WORLD_SIZE=str(args.ranks), LOCAL_RANK=str(args.rank), LOCAL_WORLD_SIZE=str(args.ranks),
                      GLOO_SOCKET_IFNAME="lo")
    torch, torchrec = import_torchrec()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=args.rank, world_size=args.ranks)
    bags = create_bags(torch, torchrec, args)
    batches = [draw(torch, torchrec, args, args.rank, number) for number in range(4)]
    grad = torch.ones(args.batch // args.ranks, args.tables * args.dim)
    times, bytes_before = [], 0
    for step in range(-args.warmup, args.steps):
        torch.distributed.barrier()
        if step == 0:
            bytes_before = loopback_bytes()
            torch.distributed.barrier()
        start = time.perf_counter()
        bags(batches[step % 4]).wait().values().backward(grad)
        if step >= 0:
            times.append(1e3 * (time.perf_counter() - start))
    torch.distributed.barrier()
    moved = loopback_bytes() - bytes_before
    if args.rank == 0:
        print(json.dumps({"bytes": moved / args.steps, "ms": statistics.median(times)}), flush=True)
    torch.distributed.barrier()


# ---- the two sides ----------------------------------------------------------------------------------------------------


def case_arguments(args):
    names = ("rows", "dim", "tables", "batch", "length", "zipf", "steps", "warmup", "ranks")
    return [word for name in names for word in (f"--{name}", str(getattr(args, name)))]


def measure_torchrec(args):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "worker", "--port", str(port), "--rank", str(rank), *case_arguments(args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "1"},
        )
        for rank in range(args.ranks)
    ]
    outputs = [worker.communicate(timeout=args.limit) for worker in workers]
    for worker, (_, errors) in zip(workers, outputs):
        if worker.returncode:
            sys.exit(f"TorchRec failed: {errors.decode()}")
    return json.loads(outputs[0][0].splitlines()[-1])


def run_shardbag(args, steps):
    """One run over TCP on loopback: the bytes it moved there in all, and what it says itself."""
    with tempfile.NamedTemporaryFile("r") as lines:
        sets = {"rows": args.rows, "dim": args.dim, "tables": args.tables, "batch": args.batch // args.ranks,
                "length": f"[{args.length}]", "zipf": f"[{args.zipf}]", "steps": steps, "warmup": args.warmup,
                "update": "exact_rowwise_adagrad", "plain": "false", "verify": "false"}
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(args.ranks), "--mca", "pml", "ob1",
                   "--mca", "btl", "self,tcp", "--mca", "btl_tcp_if_include", "lo", "--mca", "oob_tcp_if_include", "lo",
                   args.program, "bench", "exchange", "--json", lines.name]
        for name, value in sets.items():
            command += ["--set", f"{name}={value}"]
        before = loopback_bytes()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=args.limit)
        moved = loopback_bytes() - before
        return moved, json.loads(lines.read().splitlines()[-1])


def measure_shardbag(args):
    few, _ = run_shardbag(args, 1)
    many, line = run_shardbag(args, 1 + args.steps)
    own = args.ranks * sum(line[f"{leg}_bytes_sent"] for leg in ("id", "forward", "backward"))
    return {"bytes": (many - few) / args.steps, "ms": line["ms"]["median"] + line["update_ms"]["median"], "own": own}


def compare(args, length, zipf):
    args.length, args.zipf = length, zipf
    rounds = []
    for number in range(args.rounds):
        peer, ours = measure_torchrec(args), measure_shardbag(args)
        rounds.append((peer, ours))
        print(f"# L={length} Zipf {zipf:g}, round {number + 1}: TorchRec {peer['bytes'] / 1e6:.1f} MB {peer['ms']:.0f} ms, "
              f"shardbag {ours['bytes'] / 1e6:.1f} MB ({ours['own'] / 1e6:.1f} by its own count) {ours['ms']:.0f} ms",
              flush=True)

    def median(pick):
        return statistics.median(pick(peer, ours) for peer, ours in rounds)

    print(f"{length:5d} {zipf:5.2f} {median(lambda p, o: p['bytes']) / 1e6:10.1f} {median(lambda p, o: o['bytes']) / 1e6:9.1f} "
          f"{median(lambda p, o: o['bytes'] / p['bytes']):7.3f} {median(lambda p, o: p['ms']):10.1f} "
          f"{median(lambda p, o: o['ms']):9.1f} {median(lambda p, o: o['ms'] / p['ms']):7.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", default="compare", choices=["compare", "worker"])
    parser.add_argument("--program", help="shardbag")
    for name, default in (("rows", 1000000), ("dim", 64), ("tables", 26), ("batch", 2048), ("ranks", 2), ("steps", 20),
                          ("warmup", 4), ("rounds", 2), ("limit", 600), ("port", 0), ("rank", 0), ("length", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--zipf", type=float, default=0)
    parser.add_argument("--cases", default="1:0,1:1.05,10:0,10:1.05", help="LENGTH:ZIPF,... (%(default)s)")
    args = parser.parse_args()
    if args.what == "worker":
        worker(args)
        return
    print(f"# {args.tables} tables of {args.rows} x {args.dim} float32, {args.ranks} processes of one thread, global batch "
          f"{args.batch}, row-wise Adagrad; {args.rounds} rounds of {args.steps} steps\n"
          "#           |----- MB on loopback ------| |------- ms a step --------|\n"
          "#   L  Zipf   TorchRec  shardbag   ratio   TorchRec  shardbag   ratio", flush=True)
    for case in args.cases.split(","):
        length, zipf = case.split(":")
        compare(args, int(length), float(zipf))


if __name__ == "__main__":
    main()
