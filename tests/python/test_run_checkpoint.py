#!/usr/bin/python3
"""A run's checkpoint as h5py shows it: test_run_checkpoint.py BUILD_FOLDER.

Trains on a file with every kind of column and looks at everything in the checkpoint: that all is there, that every
array says what it is and in which unit, and every number among the attributes too. Then goes on from checkpoints of
earlier versions, tests/data/run-v*.h5. Ends with `N passed, N failed`.
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
ROWS = 600
CONFIG = """
data:
  kind: delimited
  delimited:
    path: {folder}/data.tsv
    delimiter: tab
    split: [0.6, 0.2, 0.2]
    columns:
      - {{name: label, kind: label}}
      - {{name: price, kind: dense, transform: zscore}}
      - {{name: user, kind: one_hot, mapping: vocabulary}}
      - {{name: shop, kind: one_hot, mapping: hash, rows: 20}}
      - {{name: tags, kind: multi_hot, mapping: identity, rows: 9, separator: space}}
table: {{dim: 4, optimizer: {{name: adagrad, lr: 0.125}}}}
tables:
  - {{name: shop, layout: cyclic, ranks: [1], optimizer: {{name: rowwise_rmsprop, lr: 0.1}}}}
  - {{name: tags, replicated: true, optimizer: {{name: adam, lr: 0.01}}}}
model: {{bottom: [8], top: [8], optimizer: {{name: adam, lr: 0.01}}}}
train: {{global_batch: 36, log_every: 4, eval_every: 4}}
"""
TABLES = {
    "user": ("adagrad", ["sum"]),
    "shop": ("rowwise_rmsprop", ["momentum1", "prev_iter"]),
    "tags": ("adam", ["exp_avg", "exp_avg_sq"]),
}

passed = failed = 0


def check(name, good, said=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print("FAIL ", name, said)


def train(build, ranks, config, *words):
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), os.path.join(build, "shardbag")]
    return subprocess.run(
        command + ["train", str(config), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100
    )


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def everything(file):
    found = {"": file}
    file.visititems(lambda name, item: found.__setitem__(name, item))
    return found


def check_words(found):
    """Descriptions of arrays and of groups that have attributes or are on top; units of all numbers."""
    for name, item in found.items():
        attributes = {key: text(value) for key, value in item.attrs.items()}
        array = isinstance(item, h5py.Dataset)
        if array or attributes or "/" not in name:
            check(f"'{name}' has a description", len(attributes.get("description", "")) > 10, attributes)
        if array:
            check(f"'{name}' has a unit", attributes.get("unit"), attributes)
        numbers = {key for key, value in attributes.items() if not isinstance(value, str)}
        units = dict(line.split(": ", 1) for line in attributes.get("units", "").splitlines())
        check(f"'{name}': the units are those of its numbers", set(units) == numbers, set(units) ^ numbers)
        check(f"'{name}': no unit is empty", all(units.values()), units)


def check_contents(found, last):
    arrays = {name for name, item in found.items() if isinstance(item, h5py.Dataset)}
    for table, (optimizer, states) in TABLES.items():
        group = found[f"tables/{table}"]
        check(f"{table}'s optimizer", text(group.attrs["optimizer"]) == optimizer)
        check(f"{table}'s steps", group.attrs["steps"] == found[""].attrs["step"] > 0)
        wanted = {f"tables/{table}/weight"} | {f"tables/{table}/state/{state}" for state in states}
        check(f"{table}'s arrays", {a for a in arrays if a.startswith(f"tables/{table}/")} == wanted)
    check("the learning rate", found["tables/user"].attrs["lr"] == 0.125)
    plan = [tuple(text(found[f"tables/{t}"].attrs[key]) for key in ("layout", "ranks", "replicated")) for t in TABLES]
    check("the plan", plan == [("block", "all", 0), ("cyclic", "1", 0), ("block", "all", 1)], plan)
    check("ranks", found[""].attrs["ranks"] == 2)
    check("a unit of its own", text(found["tables/shop/state/prev_iter"].attrs["unit"]) == "steps")
    layers = [f"{part}/{layer}/{kind}" for part in ("bottom", "top") for layer in (0, 1) for kind in ("weight", "bias")]
    wanted = {f"dense/{layer}" for layer in layers}
    wanted |= {f"dense/state/{layer}/{state}" for layer in layers for state in ("exp_avg", "exp_avg_sq")}
    check("the dense arrays", {a for a in arrays if a.startswith("dense/")} == wanted)
    wanted = {"reader/zscore/price", "reader/vocabulary/user", "reader/hash/shop"}
    check("the reader's", {a for a in arrays if a.startswith("reader/")} == wanted, arrays)
    check("words of the vocabulary", b"user7" in found["reader/vocabulary/user"][()].tobytes())
    check("the config", b"name: shop, layout: cyclic" in found["config"][()].tobytes())
    check("all is readable", all(found[name][()].shape == found[name].shape for name in arrays))
    check("the weights are finite", all(numpy.isfinite(found[f"tables/{t}/weight"][()]).all() for t in TABLES))
    valid = found["metrics/valid"].attrs
    told = {key: valid[key] for key in valid if key not in ("description", "units", "positives")}
    close = all(abs(last[key] - value) < 1e-6 for key, value in told.items())  # six digits are printed
    check("the metrics", len(told) == 7 and close, (told, last))
    check("their step", valid["step"] == found[""].attrs["evaluated_step"])


def check_run(build, folder):
    draw = random.Random(5)
    with open(folder / "data.tsv", "w", encoding="utf-8") as out:
        for i in range(ROWS):
            tags = " ".join(str(draw.randrange(9)) for _ in range(draw.randrange(4)))
            out.write(f"{draw.randrange(2)}\t{draw.random()}\tuser{i % 40}\tshop{draw.randrange(99)}\t{tags}\n")
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(folder=folder))
    done = train(build, 2, config, "--set", f"run.dir={folder}/run")
    check("training", done.returncode == 0, done.stderr)
    if done.returncode != 0:
        return
    events = [json.loads(line) for line in open(folder / "run" / "metrics.jsonl", encoding="utf-8")]
    end = next(event["step"] for event in events if event["event"] == "end")
    last = [e for e in events if e["event"] == "eval" and e["step"] < end][-1]
    with h5py.File(folder / "run" / f"ckpt-{end}.h5") as file:
        found = everything(file)
        check_words(found)
        check_contents(found, last)


def check_kept(build, folder, path):
    """Its own config says how it goes on."""
    run = folder / path.stem
    run.mkdir()
    with h5py.File(path) as file:
        step = int(file.attrs["step"])
        (folder / "kept.yaml").write_bytes(file["config"][()].tobytes())
    shutil.copy(path, run / f"ckpt-{step}.h5")
    words = ["--resume", "--set", f"run.dir={run}", "--set", f"train.max_steps={step + 3}"]
    for ranks in (2, 1):
        done = train(build, ranks, folder / "kept.yaml", *words)
        check(f"{path.name} on {ranks} ranks", done.returncode == 0, done.stderr)
        check(f"{path.name}: goes on at its step", "\ntrained 3 steps" in done.stdout, done.stdout)
        with h5py.File(run / f"ckpt-{step + 3}.h5") as file:
            check_words(everything(file))
        (run / f"ckpt-{step + 3}.h5").unlink()


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_run(sys.argv[1], folder)
        kept = sorted(DATA.glob("run-v*.h5"))
        check("runs are kept", kept)
        for path in kept:
            check_kept(sys.argv[1], folder, path)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
