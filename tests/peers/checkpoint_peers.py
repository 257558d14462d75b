"""torch's checkpoints beside shardbag's, on the same bytes in the same rounds.

One table of float32 and one state of its size (Adagrad's), cut by rows over RANKS processes. Cases, in turn in every
round: shardbag save, torch.save, DCP (torch.distributed.checkpoint) save, then cold: shardbag load, torch.load, DCP
load, and shardbag and DCP onto another number of ranks. All writing ends with fsync, all reading starts with a file
whose pages were given up by posix_fadvise(DONTNEED). torch.save and torch.load are one file of its own a process, as
many bytes as the process has rows for. Printed are GB/s (median, least, greatest) and the ratio shardbag / peer, taken
round by round.

Called by checkpoint.sh; started again by itself, as `checkpoint_peers.py worker ...`, once a measurement of a peer.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path


def drop(folder):
    """Gives up the cached pages of all files under `folder`, which are on disk."""
    for path in Path(folder).rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def sync(path):
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)


# ---- one measurement of a peer, in `ranks` processes ------------------------------------------------------------------


def worker(case, rank, ranks, port, rows, dim, folder):
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(ranks))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    mine = rows // ranks + (rank < rows % ranks)
    whole = [(rows // ranks + (r < rows % ranks)) for r in range(ranks)]
    first = sum(whole[:rank])

    def local(fill):
        """[mine][dim]: values of their place, or zeros."""
        if not fill:
            return torch.empty(mine, dim).fill_(0)  # its pages are there before the clock starts, as shardbag's
        part = torch.arange(first, first + mine, dtype=torch.float32).remainder_(8191).unsqueeze(1)
        return part + torch.arange(dim, dtype=torch.float32) / 128

    state = {"weight": local(case.endswith("save")), "sum": local(case.endswith("save"))}
    if case.startswith("dcp"):
        mesh = init_device_mesh("cpu", (ranks,))
        state = {
            name: DTensor.from_local(
                value, mesh, [Shard(0)], run_check=False, shape=torch.Size((rows, dim)), stride=(dim, 1)
            )
            for name, value in state.items()
        }
    dist.barrier()
    start = time.monotonic()
    if case == "torch_save":
        path = f"{folder}/{rank}.pt"
        torch.save(state, path)
        sync(path)
    elif case == "torch_load":
        loaded = torch.load(f"{folder}/{rank}.pt")
    elif case == "dcp_save":
        dcp.save(state, storage_writer=dcp.FileSystemWriter(folder, sync_files=True))
    else:
        dcp.load(state, storage_reader=dcp.FileSystemReader(folder))
    dist.barrier()
    seconds = time.monotonic() - start
    wrong = 0
    if case.endswith("load"):
        wanted = local(True)
        for value in (loaded if case == "torch_load" else state).values():
            part = value if case == "torch_load" else value.to_local()
            wrong += int((part != wanted).any(dim=1).sum())
    print(json.dumps({"rank": rank, "seconds": seconds, "wrong": wrong}), flush=True)
    dist.destroy_process_group()


def peer(case, ranks, args, folder):
    """Seconds of the slowest process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, __file__, "worker", case]
    rest = [str(ranks), str(port), str(args.rows), str(args.dim), str(folder)]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    started = [
        subprocess.Popen(words + [str(rank)] + rest, stdout=subprocess.PIPE, text=True, env=environment)
        for rank in range(ranks)
    ]
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"checkpoint_peers.py: {case} failed")
    results = [json.loads(lines.splitlines()[-1]) for lines in said]
    if any(result["wrong"] for result in results):
        sys.exit(f"checkpoint_peers.py: {case} did not read what was written: {results}")
    return max(result["seconds"] for result in results)


# ---- shardbag ---------------------------------------------------------------------------------------------------------


def shardbag(part, ranks, args, folder):
    lines = Path(folder) / "bench.json"
    lines.unlink(missing_ok=True)
    settings = {"rows": args.rows, "dim": args.dim, "optimizer": "adagrad", "folder": folder, "rounds": 1, "part": part}
    words = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), args.program, "bench", "checkpoint"]
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    subprocess.run(words + ["--json", str(lines)], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    found = json.loads(lines.read_text().splitlines()[-1])
    return found["seconds"][0], found["raw_seconds"][0]


# ---- rounds -----------------------------------------------------------------------------------------------------------


def one_round(args, times):
    ours, torchs, dcps = (Path(args.folder) / name for name in ("shardbag", "torch", "dcp"))

    def add(name, seconds):
        times.setdefault(name, []).append(seconds)

    def fresh(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    for folder in (ours, torchs, dcps):
        fresh(folder)
    seconds, raw = shardbag("save", args.ranks, args, ours)
    add("shardbag save", seconds)
    add("raw write", raw)
    add("torch.save + fsync", peer("torch_save", args.ranks, args, torchs))
    add("DCP save", peer("dcp_save", args.ranks, args, dcps))
    seconds, raw = shardbag("load", args.ranks, args, ours)
    add("shardbag load", seconds)
    add("raw read", raw)
    drop(torchs)
    add("torch.load", peer("torch_load", args.ranks, args, torchs))
    drop(dcps)
    add("DCP load", peer("dcp_load", args.ranks, args, dcps))
    seconds, _ = shardbag("load", args.other_ranks, args, ours)
    add("shardbag load, other ranks", seconds)
    drop(dcps)
    add("DCP load, other ranks", peer("dcp_load", args.other_ranks, args, dcps))
    for folder in (ours, torchs, dcps):
        shutil.rmtree(folder)


PAIRS = {
    "raw write": "shardbag save",
    "torch.save + fsync": "shardbag save",
    "DCP save": "shardbag save",
    "raw read": "shardbag load",
    "torch.load": "shardbag load",
    "DCP load": "shardbag load",
    "DCP load, other ranks": "shardbag load, other ranks",
}


def report(args, times):
    import torch

    gigabytes = args.rows * args.dim * 8 / 1e9
    print(f"# {gigabytes:.2f} GB (weight and one state), {args.ranks} processes, then {args.other_ranks};", end=" ")
    print(f"{args.rounds} rounds; torch {torch.__version__}, 1 thread a process; shardbag with checksums")
    print("#                               GB/s                   shardbag / this")
    print("# case                        median    min    max    median    min    max")
    for name, seconds in times.items():
        speeds = [gigabytes / s for s in seconds]
        row = f"{name:28s} {statistics.median(speeds):7.2f} {min(speeds):6.2f} {max(speeds):6.2f}"
        if name in PAIRS:
            ratios = [peer_s / our_s for peer_s, our_s in zip(seconds, times[PAIRS[name]])]
            row += f"   {statistics.median(ratios):7.2f} {min(ratios):6.2f} {max(ratios):6.2f}"
        print(row, flush=True)


def main():
    if sys.argv[1:2] == ["worker"]:
        case, rank, ranks, port, rows, dim, folder = sys.argv[2:]
        worker(case, int(rank), int(ranks), int(port), int(rows), int(dim), folder)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="the shardbag to measure")
    parser.add_argument("--folder", required=True, help="where the files lie: on the disk that is measured")
    parser.add_argument("--rows", type=int, default=8388608)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--other-ranks", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    needed = args.rows * args.dim * 8 * 4 + (1 << 28)  # three checkpoints and one raw file
    Path(args.folder).mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(args.folder).free < needed:
        sys.exit(f"checkpoint_peers.py: {args.folder} has no {needed / 1e9:.1f} GB free; take fewer --rows")
    times = {}
    for number in range(args.rounds):
        one_round(args, times)
        took = ", ".join(f"{name} {seconds[-1]:.2f}" for name, seconds in times.items())
        print(f"# round {number + 1} of {args.rounds}, seconds: {took}", file=sys.stderr, flush=True)
    report(args, times)


if __name__ == "__main__":
    main()
