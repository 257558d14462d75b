#!/usr/bin/env python3
"""What the hot kernels take of a GPU: registers, shared memory, spills (ptxas -v), and the share of an SM's warps that
this lets be there at once. tests/cuda/ptxas.py [ARCHITECTURE...], default 80 90; needs nvcc. Prints a table a file of
kernels and ends with `N passed, N failed`: a kernel that spills fails."""
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLAGS = ["-std=c++17", "-fmad=false", "-D_GNU_SOURCE", "-I.", "-Isrc", "-Iinclude", "-Xptxas", "-v"]
# What is hot in each file: f32 in vectors of 4, which is any dim that 4 divides.
HOT = {
    "cuda/reduce.cu": r"reduce_(short|long)<float, 4,",
    "cuda/optimizer.cu": r"update_(parts<float, 4,|wholes<float,)",
    "cuda/rows.cu": r"(copy_rows|dot|renorm|norm_squared)<float, (4|float, 4)>",
    "cuda/dense/interaction.cu": r".",
    "cuda/dense/softmax.cu": r".",
    "cuda/dense/match.cu": r".",
    "cuda/dense/product.cu": r".",
}
THREADS = dict.fromkeys((f for f in HOT if "/dense/" in f), 256)  # of a block; elsewhere REAL_THREADS
ENUMS = {
    "pool_kind": ["sum", "selected", "max"],
    "part_kind": ["sgd", "adagrad", "adam", "sparse_adam", "rmsprop", "fbgemm_adam"],
    "whole_kind": ["rowwise_adagrad", "rowwise_rmsprop", "partial_rowwise_adam", "lamb", "lars"],
}
SHARED_KIB = {80: 164, 86: 100, 90: 228, 100: 228}


def occupancy(architecture, threads, registers, shared):
    """The SM has 64 Ki registers, given to warps in units of 256; 64 warps; 32 blocks."""
    warps = threads // 32
    a_warp = -(-registers * 32 // 256) * 256
    blocks = min(64 // warps, 32, 65536 // a_warp // warps)
    if shared > 0:
        blocks = min(blocks, (SHARED_KIB.get(architecture, 100) << 10) // (shared + 1024))
    return blocks * warps / 64


def named(match):
    kind, value = match.group(1), int(match.group(2))
    return ENUMS[kind][value] if kind in ENUMS else str(value)


def kernels(file, architecture):
    """(name, registers, shared, spilled bytes) of each hot kernel of a file."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        run = subprocess.run(["nvcc", *FLAGS, f"-arch=sm_{architecture}", "-cubin", file, "-o", cubin.name],
                             cwd=ROOT, text=True, capture_output=True, check=False)
    if run.returncode != 0:
        sys.exit(f"ptxas.py: {file}: {run.stderr[-400:]}")
    said = subprocess.run(["c++filt"], input=run.stderr, text=True, capture_output=True, check=True).stdout
    said = said.replace("(anonymous namespace)::", "")
    for block in re.split(r"Compiling entry function '", said)[1:]:
        name = block[: block.index("' for")]
        if not re.search(HOT[file], name):
            continue
        name = re.sub(r"\((\w+)\)(\d+)", named, name)
        name = re.sub(r"^void |\(.*$", "", name)
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", block)))
        shared = re.search(r"(\d+) bytes smem", block)
        yield name, int(re.search(r"Used (\d+) registers", block).group(1)), int(shared.group(1)) if shared else 0, spilled


def main():
    architectures = [int(a) for a in sys.argv[1:]] or [80, 90]
    passed = failed = 0
    tasks = [(file, architecture) for file in HOT for architecture in architectures]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for its nvcc
        made = dict(zip(tasks, pool.map(lambda task: list(kernels(*task)), tasks)))
    for file in HOT:
        found = {}
        for architecture in architectures:
            for name, registers, shared, spilled in made[file, architecture]:
                share = occupancy(architecture, THREADS.get(file, 128), registers, shared)
                found.setdefault(name, []).append((registers, shared, spilled, f"{100 * share:.0f} %"))
                passed += spilled == 0
                failed += spilled > 0
        if not found:
            sys.exit(f"ptxas.py: {file} has no kernel of the names that this looks for")
        head = [f"{what}, sm_{a}" for a in architectures for what in ("registers", "shared", "spills", "occupancy")]
        print(f"\n| {file} | " + " | ".join(head) + " |\n" + "|---" * (1 + len(head)) + "|")
        for name, cells in sorted(found.items()):
            print(f"| `{name}` | " + " | ".join(str(c) for cell in cells for c in cell) + " |")
    print(f"\n{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
