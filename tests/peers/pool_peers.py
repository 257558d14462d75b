"""FBGEMM's TBE and torch's embedding_bag beside `shardbag bench pool`: milliseconds of a step, in turn.

26 tables of 10^6 x 64 float32, 2048 bags of each. Every row of the table that this prints is one peer and one
shardbag, each in processes of its own that take turns, ROUNDS times, so that what else the machine does falls on both
alike: forward alone, or forward, backward and update of an optimizer. Both draw rows by the same distribution, 4
batches that come in turn. Printed are medians over rounds and the ratio peer / shardbag, taken round by round.

Called by pool.sh; started again by itself, as `pool_peers.py worker ...`, once a measurement of a peer.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCHES = 4

# name: (peer, mode, shardbag's optimizer, the peer's, at most so many rows)
CASES = {
    "forward sum": ("fbgemm", "sum", "none", None, None),
    "forward mean": ("fbgemm", "mean", "none", None, None),
    "forward max": ("torch", "max", "none", None, None),
    "row-wise Adagrad": ("fbgemm", "sum", "exact_rowwise_adagrad", "EXACT_ROWWISE_ADAGRAD", None),
    "SGD": ("fbgemm", "sum", "exact_sgd", "EXACT_SGD", None),
    "Adagrad": ("fbgemm", "sum", "exact_adagrad", "EXACT_ADAGRAD", None),
    "Adam": ("torch", "sum", "sparse_adam", "SparseAdam", 200000),
    "int8": ("fbgemm_int", "sum", "none", None, None),
    "int4": ("fbgemm_int", "sum", "none", None, None),
    "f16": ("fbgemm_int", "sum", "none", None, None),
}
QUANTISED = ("int8", "int4", "f16")  # weights of so many bits, for inference
DEFAULT = [case for case in CASES if case not in QUANTISED]


# ---- a peer, in a process of its own ----------------------------------------------------------------------------------


def import_torch(threads):
    """FBGEMM's CPU wheel finds an empty cpuinfo_isa in libc10.so and takes its slowest kernels, unless libtorch.so is
    there before it."""
    torch_folder = Path(importlib.util.find_spec("torch").origin).parent
    ctypes.CDLL(str(torch_folder / "lib" / "libtorch.so"), mode=ctypes.RTLD_GLOBAL)
    import torch

    torch.set_num_threads(threads)
    return torch


class Rows:
    """Rows by Zipf, the popular ones anywhere, as shardbag draws them."""

    def __init__(self, rows, zipf):
        import numpy

        self.numpy, self.rows, self.zipf = numpy, rows, zipf
        self.random = numpy.random.default_rng(1)
        if zipf:
            self.weights = numpy.cumsum(numpy.arange(1, rows + 1, dtype=numpy.float64) ** -zipf)
            self.places = numpy.random.default_rng(7).permutation(rows)

    def draw(self, count):
        if not self.zipf:
            return self.random.integers(0, self.rows, count)
        found = self.numpy.searchsorted(self.weights, self.random.random(count) * self.weights[-1])
        return self.places[self.numpy.minimum(found, self.rows - 1)]


def fbgemm_step(torch, args):
    """A function that makes batches, and one that takes a step with one."""
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    tables = SplitTableBatchedEmbeddingBagsCodegen(
        embedding_specs=[(args.rows, args.dim, EmbeddingLocation.HOST, ComputeDevice.CPU)] * args.tables,
        optimizer=getattr(EmbOptimType, args.optimizer or "EXACT_SGD"),
        learning_rate=0.01,
        pooling_mode=PoolingMode.MEAN if args.mode == "mean" else PoolingMode.SUM,
        device=torch.device("cpu"),
    )
    for weight in tables.split_embedding_weights():
        weight.fill_(0.5)
    grad = torch.ones(args.batch, args.tables * args.dim)

    def batch(draw, length):
        indices = torch.from_numpy(draw(args.tables * args.batch * length))
        return indices, torch.arange(args.tables * args.batch + 1) * length

    def step(batch):
        if args.optimizer:
            tables(*batch).backward(grad)
        else:
            with torch.no_grad():
                tables(*batch)

    return batch, step


def fbgemm_int_step(torch, args):
    """FBGEMM's tables for inference on the CPU, rows with random codes, float32 out, indices not checked."""
    import fbgemm_gpu  # noqa: F401
    from fbgemm_gpu.split_embedding_configs import SparseType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen

    kind = {"int8": SparseType.INT8, "int4": SparseType.INT4, "f16": SparseType.FP16}[args.storage]
    tables = IntNBitTableBatchedEmbeddingBagsCodegen(
        embedding_specs=[("", args.rows, args.dim, kind, EmbeddingLocation.HOST)] * args.tables,
        pooling_mode=PoolingMode.SUM,
        device=torch.device("cpu"),
        output_dtype=SparseType.FP32,
        bounds_check_mode=BoundsCheckMode.NONE,
    )
    tables.fill_random_weights()
    if args.storage != "f16":  # a scale of 0.5 and a bias of 0, whatever the codes are
        for _, scales in tables.split_embedding_weights(split_scale_shifts=True):
            scales.view(torch.float16)[:] = torch.tensor([0.5, 0.0], dtype=torch.float16)
    else:
        for weight, _ in tables.split_embedding_weights():
            weight.zero_()

    kind = getattr(torch, args.indices)

    def batch(draw, length):
        indices = torch.from_numpy(draw(args.tables * args.batch * length)).to(kind)
        return indices, (torch.arange(args.tables * args.batch + 1) * length).to(kind)

    def step(batch):
        with torch.no_grad():
            tables(*batch)

    return batch, step


def torch_step(torch, args):
    weights = [torch.full((args.rows, args.dim), 0.5, requires_grad=bool(args.optimizer)) for _ in range(args.tables)]
    optimizer = torch.optim.SparseAdam(weights, lr=0.01) if args.optimizer else None
    grad = torch.ones(args.batch, args.dim)
    pool = torch.nn.functional.embedding_bag

    def batch(draw, length):
        return [torch.from_numpy(draw(args.batch * length)).view(args.batch, length) for _ in weights]

    def step(batch):
        if optimizer is None:
            with torch.no_grad():
                for rows, weight in zip(batch, weights):
                    pool(rows, weight, mode=args.mode)
            return
        optimizer.zero_grad(set_to_none=True)
        outputs = [pool(rows, weight, mode=args.mode, sparse=True) for rows, weight in zip(batch, weights)]
        torch.autograd.backward(outputs, [grad] * len(outputs))
        optimizer.step()

    return batch, step


def worker(args):
    torch = import_torch(args.threads)
    steps = {"fbgemm": fbgemm_step, "fbgemm_int": fbgemm_int_step, "torch": torch_step}
    make, step = steps[args.peer](torch, args)
    for zipf in args.zipfs:
        rows = Rows(args.rows, zipf)
        for length in args.lengths:
            batches = [make(rows.draw, length) for _ in range(BATCHES)]
            times = []
            for number in range((1 + args.passes) * BATCHES):
                start = time.perf_counter()
                step(batches[number % BATCHES])
                times.append(1e3 * (time.perf_counter() - start))
            print(json.dumps({"length": length, "zipf": zipf, "ms": statistics.median(times[BATCHES:])}), flush=True)


# ---- the two sides ----------------------------------------------------------------------------------------------------


def environment(threads):
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "THP_MEM_ALLOC_ENABLE": "1"}


def measure_peer(args, case, threads, rows):
    peer, mode, _, optimizer, _ = CASES[case]
    words = [sys.executable, __file__, "worker", "--peer", peer, "--mode", mode, "--optimizer", optimizer or ""]
    for name in ("dim", "tables", "batch", "passes"):
        words += [f"--{name}", str(getattr(args, name))]
    words += ["--rows", str(rows), "--threads", str(threads), "--lengths", ",".join(map(str, args.lengths))]
    words += ["--zipfs", ",".join(map(str, args.zipfs)), "--storage", case, "--indices", args.indices]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(threads))
    if done.returncode:
        sys.exit(f"pool_peers.py: {peer} failed: {done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(line["length"], line["zipf"]): line["ms"] for line in lines}


def measure_shardbag(args, case, threads, rows):
    _, mode, optimizer, _, _ = CASES[case]
    with tempfile.NamedTemporaryFile("r") as lines:
        sets = {"rows": rows, "dim": f"[{args.dim}]", "tables": args.tables, "batch": args.batch, "mode": mode,
                "optimizer": optimizer, "storage": case if case in QUANTISED else "full", "length": args.lengths, "zipf": args.zipfs, "threads": threads,
                "rounds": args.passes, "warmup": 1, "batches": BATCHES, "limit": "false", "verify": "false"}
        words = [args.program, "bench", "pool", "--json", lines.name]
        for name, value in sets.items():
            words += ["--set", f"{name}={value}"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment(threads))
        found = [json.loads(line) for line in lines.read().splitlines()]
    which = "forward_ms" if optimizer == "none" else "step_ms"
    return {(line["length"], line["zipf"]): line[which]["median"] for line in found}


def compare(args, case, threads):
    rows = min(args.rows, CASES[case][4] or args.rows)
    rounds = []
    for number in range(args.rounds):
        peer, ours = measure_peer(args, case, threads, rows), measure_shardbag(args, case, threads, rows)
        rounds.append((peer, ours))
    for at in rounds[0][0]:
        peer, ours = (statistics.median(side[at] for side in sides) for sides in zip(*rounds))
        ratios = [peer[at] / ours[at] for peer, ours in rounds]
        name = {"fbgemm": "FBGEMM", "fbgemm_int": "FBGEMM", "torch": "torch"}[CASES[case][0]]
        print(f"{case:>17s} {name:>7s} {rows:8d} {at[0]:4d} {at[1]:5.2f} {threads:7d} {peer:9.2f} {ours:9.2f} "
              f"{statistics.median(ratios):7.2f} {min(ratios):6.2f} {max(ratios):6.2f}", flush=True)
        if args.json:
            with open(args.json, "a") as file:
                line = {"event": "peer", "what": case, "peer": name, "rows": rows, "length": at[0], "zipf": at[1],
                        "threads": threads, "peer_ms": peer, "shardbag_ms": ours, "ratios": ratios}
                file.write(json.dumps(line) + "\n")


def numbers(kind):
    return lambda text: [kind(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="compare", choices=["compare", "worker"])
    parser.add_argument("--program", help="the shardbag to measure")
    for name, default, text in (("rows", 1000000, "of a table"), ("dim", 64, None), ("tables", 26, None),
                                ("batch", 2048, "bags of a table"), ("rounds", 2, "of both sides in turn"),
                                ("passes", 5, "over the batches, in each process")):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text or ''} (%(default)s)")
    parser.add_argument("--lengths", type=numbers(int), default=[1, 10, 40], help="of bags (1,10,40)")
    parser.add_argument("--zipfs", type=numbers(float), default=[0.0, 1.05], help="how uneven rows are (0,1.05)")
    parser.add_argument("--threads", type=numbers(int), default=[1, 2], help="(1,2)")
    parser.add_argument("--cases", default=",".join(DEFAULT), help=f"(%(default)s); also {','.join(QUANTISED)}")
    parser.add_argument("--indices", default="int64", choices=["int32", "int64"], help="of FBGEMM's int8, int4 and f16")
    parser.add_argument("--storage", help=argparse.SUPPRESS)
    parser.add_argument("--json", help="a file that gets a line a row")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("--optimizer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.what == "worker":
        args.threads = args.threads[0]
        worker(args)
        return
    unknown = [case for case in args.cases.split(",") if case not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are: {', '.join(CASES)}")
    print(f"# {args.tables} tables x {args.dim} float32 (or what a case names), batch {args.batch}; {args.rounds} rounds of one process each in "
          f"turn, {args.passes} passes over {BATCHES} batches\n"
          "# optimizers: forward, backward and update; FBGEMM with its AVX kernels, torch with transparent huge pages\n"
          "#                                                      |---- ms ----------| |--- peer / shardbag --|\n"
          "#           what    peer     rows    L  zipf threads      peer  shardbag  median    min    max", flush=True)
    for case in args.cases.split(","):
        for threads in args.threads:
            compare(args, case, threads)


if __name__ == "__main__":
    main()
