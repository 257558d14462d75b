"""Training of configs/movielens.yaml and configs/mathsx.yaml: shardbag from the files beside torch on prepared tensors.

torch has the same tables, layers, batches, optimizers and learning rates; its batches are tensors before the clock runs,
in one order for all epochs. shardbag's time is that of its training, reading, parsing and shuffling included, without
evaluations and checkpoints; both begin with their data's vocabularies known. The two take turns, ROUNDS times, each with
RANKS cores: shardbag as so many processes, torch with so many threads. Printed are medians over rounds and the ratio
torch / shardbag, taken round by round.

Called by train.sh; started again by itself, as `train_peers.py worker ...`, once a measurement of torch.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DIM = 16


# ---- data as batches of tensors ---------------------------------------------------------------------------------------


def number(values):
    """Places in the order of first sight, and how many there are."""
    seen = {}
    return [seen.setdefault(value, len(seen)) for value in values], len(seen)


def read_movielens(folder):
    def rows(name):
        return [line.split("\t") for line in (Path(folder) / f"ml-100k.{name}").read_text().splitlines()[1:]]

    ratings = sorted(rows("inter"), key=lambda row: float(row[3]))
    users, items = {row[0]: row for row in rows("user")}, {row[0]: row for row in rows("item")}
    genre_numbers = {genre: i for i, genre in enumerate(sorted({g for row in items.values() for g in row[3].split()}))}
    movie, movies = number([row[1] for row in ratings])
    liked, histories = {}, []
    for row, place in zip(ratings, movie):
        mine = liked.setdefault(row[0], [])
        histories.append(mine[-20:])
        if float(row[2]) >= 4:
            mine.append(place)
    one_hot = {"user": number([row[0] for row in ratings]), "movie": (movie, movies)}
    for name, column in (("age", 1), ("gender", 2), ("occupation", 3)):
        one_hot[name] = number([users[row[0]][column] for row in ratings])
    genres = [[genre_numbers[genre] for genre in items[row[1]][3].split()] for row in ratings]
    return {"labels": [float(row[2]) >= 4 for row in ratings], "dense": None,
            "features": [(name, name, count, [[p] for p in places]) for name, (places, count) in one_hot.items()]
            + [("genres", "genres", len(genre_numbers), genres), ("history", "movie", movies, histories)],
            "means": {"history"}, "bottom": [], "top": [128], "lr": (0.3, 0.02), "decay": 2e-4, "batch": 256, "epochs": 5}


def read_mathsx(path):
    with gzip.open(path, "rt") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    counts = {}
    for row in rows:
        counts[row[4]] = counts.get(row[4], 0) + 1
    user, users = number([row[4] if counts[row[4]] > 1 else "" for row in rows])
    return {"labels": [row[0] == "1" for row in rows], "dense": [[float(v or 0) % 24 / 24 for v in row[1:4]] for row in rows],
            "features": [("user", "user", users, [[p] for p in user]),
                         ("tags", "tags", 1700, [[int(t) for t in row[5].split()] for row in rows]),
                         ("history", "tags", 1700, [[int(t) for t in row[6].split()][:30] for row in rows])],
            "means": {"tags", "history"}, "bottom": [64], "top": [64, 32], "lr": (0.1, 0.05), "decay": 0, "batch": 2048,
            "epochs": 1}


def make_batches(torch, data):
    count = len(data["labels"]) * 8 // 10
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1)).tolist()
    batches = []
    for first in range(0, count, data["batch"]):
        mine, bags = order[first:first + data["batch"]], []
        for _, _, _, values in data["features"]:
            lists = [values[i] for i in mine]
            lengths = torch.tensor([0] + [len(one) for one in lists])
            bags.append((torch.tensor([v for one in lists for v in one], dtype=torch.int64), lengths.cumsum(0)[:-1]))
        dense = torch.tensor([data["dense"][i] for i in mine]) if data["dense"] else None
        batches.append((torch.tensor([float(data["labels"][i]) for i in mine]), dense, bags))
    return count, batches


# ---- torch ------------------------------------------------------------------------------------------------------------


def create_model(torch, data):
    def mlp(widths):
        layers = []
        for into, out in zip(widths, widths[1:]):
            layers += [torch.nn.Linear(into, out), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    features, bottom = data["features"], data["dense"] is not None
    vectors = len(features) + bottom
    in_front = DIM if bottom else vectors * DIM
    # torch's Adagrad takes no weight decay with sparse gradients; on tables as small as these dense ones are as fast.
    tables = {table: torch.nn.Parameter(torch.randn(rows, DIM) * 0.01) for _, table, rows, _ in features}
    sparse = not data["decay"]
    pairs = torch.tril_indices(vectors, vectors, -1)
    layers = torch.nn.ModuleList([mlp([in_front + pairs.shape[1], *data["top"], 1])])
    if bottom:
        layers.append(mlp([3, *data["bottom"], DIM]))

    def forward(dense, bags):
        pooled = [torch.nn.functional.embedding_bag(places, tables[table], offsets, sparse=sparse,
                                                    mode="mean" if name in data["means"] else "sum")
                  for (name, table, _, _), (places, offsets) in zip(features, bags)]
        if bottom:
            pooled.insert(0, layers[1](dense))
        stacked = torch.stack(pooled, 1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))[:, pairs[0], pairs[1]]
        front = pooled[0] if bottom else stacked.flatten(1)
        return layers[0](torch.cat([front, products], 1)).squeeze(1)

    optimizers = [torch.optim.Adagrad(tables.values(), lr=data["lr"][0], weight_decay=data["decay"]),
                  torch.optim.Adagrad(layers.parameters(), lr=data["lr"][1])]
    return forward, optimizers


def worker(args):
    import torch

    torch.set_num_threads(args.ranks)
    data = read_movielens(args.movielens) if args.what_data == "movielens" else read_mathsx(args.mathsx)
    count, batches = make_batches(torch, data)
    forward, optimizers = create_model(torch, data)
    loss_of = torch.nn.BCEWithLogitsLoss()

    def step(labels, dense, bags):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = loss_of(forward(dense, bags), labels)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss

    step(*batches[0])
    start, sum_of_losses = time.perf_counter(), 0.0
    for _ in range(data["epochs"]):
        for batch in batches:
            sum_of_losses += step(*batch).item()
    seconds = time.perf_counter() - start
    print(json.dumps({"rate": data["epochs"] * count / seconds, "loss": sum_of_losses / len(batches) / data["epochs"]}))


# ---- the two sides ----------------------------------------------------------------------------------------------------


def measure_torch(args, what):
    words = [word for name in ("movielens", "mathsx", "ranks") for word in (f"--{name}", str(getattr(args, name)))]
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, "worker", "--data", what, *words], check=True, stdout=subprocess.PIPE,
                          timeout=args.limit, env={**os.environ, "OMP_NUM_THREADS": str(args.ranks)})
    return json.loads(done.stdout.splitlines()[-1])["rate"]


def measure_shardbag(args, what):
    with tempfile.TemporaryDirectory() as folder:
        path = ("data.movielens.folder", args.movielens) if what == "movielens" else ("data.delimited.path", args.mathsx)
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(args.ranks), args.program, "train",
                   str(Path(args.configs) / f"{what}.yaml"), "--progress", "none", "--json", f"{folder}/lines",
                   "--set", "=".join(path), "--set", f"run.dir={folder}/run", "--set", f"checkpoint.dir={folder}/saved"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=args.limit,
                       env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        lines = [json.loads(line) for line in Path(f"{folder}/lines").read_text().splitlines()]
    begun, ended = (next(line for line in lines if line["event"] == name) for name in ("start", "end"))
    epochs = 5 if what == "movielens" else 1
    return epochs * begun["samples"] / ended["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="compare", choices=["compare", "worker"])
    parser.add_argument("--program", help="the shardbag to measure")
    parser.add_argument("--configs", help="where its configs are")
    parser.add_argument("--data", dest="what_data", help=argparse.SUPPRESS)
    parser.add_argument("--movielens", default="data/ml-100k", help="(%(default)s)")
    parser.add_argument("--mathsx", default="data/mathsx/mathsx_ctr_tail259496.tsv.gz", help="(%(default)s)")
    for name, default in (("ranks", 2), ("rounds", 3), ("limit", 600)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    args = parser.parse_args()
    if args.what == "worker":
        worker(args)
        return
    print(f"# shardbag on {args.ranks} processes, torch with {args.ranks} threads; {args.rounds} rounds\n"
          "#          |-- samples a second --| |- shardbag / torch -|\n"
          "# data          torch    shardbag   median    min    max", flush=True)
    for what, path in (("movielens", Path(args.movielens) / "ml-100k.inter"), ("mathsx", Path(args.mathsx))):
        if not path.exists():
            print(f"skipped: {what}: {path} is not there")
            continue
        rounds = [(measure_torch(args, what), measure_shardbag(args, what)) for _ in range(args.rounds)]
        theirs, ours = (statistics.median(side) for side in zip(*rounds))
        ratios = [own / peer for peer, own in rounds]
        print(f"{what:10s} {theirs:11.0f} {ours:11.0f} {statistics.median(ratios):8.2f} {min(ratios):6.2f} "
              f"{max(ratios):6.2f}", flush=True)


if __name__ == "__main__":
    main()
