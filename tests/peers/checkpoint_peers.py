"""torch's checkpoints beside shardbag's, on the same bytes in the same rounds.

One table of float32 and one state of its size (Adagrad's), cut by rows over RANKS processes. Cases: shardbag save,
plain pwrite of as many bytes, torch.save, DCP (torch.distributed.checkpoint) save; the same four for loading; and
shardbag and DCP onto another number of ranks. Their order turns round in every second round. All writing ends with
fsync. The plain pwrite is of blocks of 16 MiB, to space that is reserved and past the page cache (O_DIRECT) where the
file system allows it, as shardbag's writes are. Before each measurement, when its data lie ready in memory, the disk is
synced and rests; a read then starts with a file whose pages were given up by posix_fadvise(DONTNEED). torch.save and
torch.load are one file of its own a process, as many bytes as the process has rows for. Printed are GB/s (median, least,
greatest) and the ratio shardbag / peer, taken round by round.

Called by checkpoint.sh; started again by itself, as `checkpoint_peers.py worker ...`, once a measurement of a peer.
"""

import argparse
import json
import mmap
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


BLOCK = 16 << 20


def raw_open(case, path, first, end):
    """Past the page cache, as shardbag, if all writes begin and end with a page and the file system can."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if case != "raw_save" or end == first:
        return file
    os.posix_fallocate(file, first, end - first)
    if first % mmap.PAGESIZE == 0 and end % mmap.PAGESIZE == 0:
        try:
            direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        except OSError:
            return file
        os.close(file)
        return direct
    return file


def raw(case, path, first, end):
    """Moves the bytes [first, end) of a file through one buffer."""
    file = raw_open(case, path, first, end)
    block = memoryview(mmap.mmap(-1, BLOCK))  # begins with a page
    block[:] = b"\x5a" * BLOCK
    for at in range(first, end, BLOCK):
        part = block[: min(BLOCK, end - at)]
        moved = os.pwrite(file, part, at) if case == "raw_save" else os.preadv(file, [part], at)
        if moved != len(part):
            sys.exit(f"{path}: {moved} of {len(part)} bytes at {at}")
    if case == "raw_save":
        os.fsync(file)
    os.close(file)


def worker(case, rank, ranks, port, rows, dim, rest, folder):
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(ranks))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    whole = [(rows // ranks + (r < rows % ranks)) for r in range(ranks)]
    mine, first = whole[rank], sum(whole[:rank])
    row_bytes = 2 * 4 * dim

    def local(fill):
        """[mine][dim]: values of their place, or zeros."""
        if not fill:
            return torch.empty(mine, dim).fill_(0)  # its pages are there before the clock starts, as shardbag's
        part = torch.arange(first, first + mine, dtype=torch.float32).remainder_(8191).unsqueeze(1)
        return part + torch.arange(dim, dtype=torch.float32) / 128

    state = {}
    if not case.startswith("raw"):
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
    os.sync()
    time.sleep(rest)
    if case.endswith("load"):
        drop(folder)
    dist.barrier()
    start = time.monotonic()
    if case.startswith("raw"):
        raw(case, f"{folder}/raw", first * row_bytes, (first + mine) * row_bytes)
    elif case == "torch_save":
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
    rest = [str(ranks), str(port), str(args.rows), str(args.dim), str(args.rest), str(folder)]
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
    """Seconds; the bench settles the disk and drops the file's pages itself."""
    lines = Path(folder) / "bench.json"
    lines.unlink(missing_ok=True)
    settings = {"rows": args.rows, "dim": args.dim, "optimizer": "adagrad", "folder": folder}
    settings |= {"rounds": 1, "part": part, "rest": args.rest}
    words = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), args.program, "bench", "checkpoint"]
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    subprocess.run(words + ["--json", str(lines)], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return json.loads(lines.read_text().splitlines()[-1])["seconds"][0]


# ---- rounds -----------------------------------------------------------------------------------------------------------


def cases(args):
    """Three groups of (name, function): what is saved is loaded later in the round, on two numbers of ranks."""
    ours, raws, torchs, dcps = (Path(args.folder) / name for name in ("shardbag", "raw", "torch", "dcp"))
    few, other = args.ranks, args.other_ranks
    save = [
        ("shardbag save", lambda: shardbag("save", few, args, ours)),
        ("raw write", lambda: peer("raw_save", few, args, raws)),
        ("torch.save + fsync", lambda: peer("torch_save", few, args, torchs)),
        ("DCP save", lambda: peer("dcp_save", few, args, dcps)),
    ]
    load = [
        ("shardbag load", lambda: shardbag("load", few, args, ours)),
        ("raw read", lambda: peer("raw_load", few, args, raws)),
        ("torch.load", lambda: peer("torch_load", few, args, torchs)),
        ("DCP load", lambda: peer("dcp_load", few, args, dcps)),
    ]
    elsewhere = [
        ("shardbag load, other ranks", lambda: shardbag("load", other, args, ours)),
        ("DCP load, other ranks", lambda: peer("dcp_load", other, args, dcps)),
    ]
    return (ours, raws, torchs, dcps), (save, load, elsewhere)


def one_round(number, args, times):
    folders, groups = cases(args)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for group in groups:
        for name, measure in group if number % 2 == 0 else reversed(group):
            times[name].append(measure())
    for folder in folders:
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
    print(f"{args.rounds} rounds, every second one backwards")
    print(f"# {args.rest:g} s of rest before each measurement; torch {torch.__version__}, 1 thread a process; shardbag with checksums")
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
        case, rank, ranks, port, rows, dim, rest, folder = sys.argv[2:]
        worker(case, int(rank), int(ranks), int(port), int(rows), int(dim), float(rest), folder)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="the shardbag to measure")
    parser.add_argument("--folder", required=True, help="where the files lie: on the disk that is measured")
    parser.add_argument("--rows", type=int, default=8388608)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--other-ranks", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6, help="of all cases; even, so that each comes first as often")
    parser.add_argument("--rest", type=float, default=5, help="seconds of rest for the disk before each measurement")
    args = parser.parse_args()
    needed = args.rows * args.dim * 8 * 5 + (1 << 28)  # three checkpoints and two raw files
    Path(args.folder).mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(args.folder).free < needed:
        sys.exit(f"checkpoint_peers.py: {args.folder} has no {needed / 1e9:.1f} GB free; take fewer --rows")
    times = {name: [] for group in cases(args)[1] for name, _ in group}
    for number in range(args.rounds):
        one_round(number, args, times)
        took = ", ".join(f"{name} {seconds[-1]:.2f}" for name, seconds in times.items())
        print(f"# round {number + 1} of {args.rounds}, seconds: {took}", file=sys.stderr, flush=True)
    report(args, times)


if __name__ == "__main__":
    main()
