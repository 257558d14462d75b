#!/usr/bin/python3
"""A server under mixed load while its checkpoint is changed: soak.py BUILD_FOLDER SECONDS.

Half of the time on one rank, half on two. Several clients at a time ask for predictions and embeddings of 1 to 400 rows,
as JSON and as binary tensors, and one request in a hundred is wrong. Three times a newer checkpoint takes the served
one's place: it is watched for, called for, signalled for. Every answer must be the numbers of the checkpoint that it
names, every wrong request must get its 400, no request may be lost, and the ranks' memory must not grow. Ends with
`N passed, N failed`.
"""

import collections
import http.client
import json
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import threading
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
sys.dont_write_bytecode = True
import test_serve as base  # noqa: E402  the server, its rows and its checkpoints

CLIENTS = 6
SIZES = (1, 1, 1, 2, 7, 31, 128, 400)
GROWTH_BYTES = 4 << 20  # of a rank, from the first third to the end


class Known:
    """What a checkpoint answers: logits and pools of all rows."""

    def __init__(self, checkpoint, rows, logits):
        self.logits = logits
        self.user, self.tags = base.pools(checkpoint, rows, 0, base.ROWS)


class Asker(threading.Thread):
    def __init__(self, port, seed, rows, known):
        super().__init__(daemon=True)
        self.port, self.rows, self.known = port, rows, known
        self.draw = random.Random(seed)
        self.ending = threading.Event()
        self.count, self.versions = collections.Counter(), collections.Counter()
        self.problems = []
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.ending.is_set():
            try:
                if self.draw.random() < 0.01:
                    self.ask_wrong(connection)
                else:
                    self.ask(connection)
            except (OSError, http.client.HTTPException) as error:
                self.problems.append(f"lost: {error!r}")
                connection.close()
        connection.close()

    def post(self, connection, model, body, headers=None):
        connection.request("POST", f"/v2/models/{model}/infer", body, headers or {})
        answer = connection.getresponse()
        return answer, answer.read()

    def ask_wrong(self, connection):
        good = self.rows.inputs(0, 2)
        body = self.draw.choice((
            "{", '{"inputs":[]}', json.dumps({"inputs": good[:-1]}),
            json.dumps({"inputs": [base.tensor("user", "INT64", [50, -1])] + good[1:]}),
            json.dumps({"inputs": [base.tensor("user", "INT64", [[0, 1], [2, 3], [4, 5]])] + good[1:]}),
        ))
        answer, said = self.post(connection, "shop", body)
        self.count["wrong"] += 1
        if answer.status != 400:
            self.problems.append(f"a wrong request got {answer.status}: {said[:200]}")

    def ask(self, connection):
        rows = self.draw.choice(SIZES)
        begin = self.draw.randrange(base.ROWS - rows + 1)
        end = begin + rows
        embeddings, binary = self.draw.random() < 0.3, self.draw.random() < 0.5
        model = "shop/embeddings" if embeddings else "shop"
        body = {"inputs": self.rows.inputs(begin, end, self.draw.random() < 0.5, dense=not embeddings)}
        if binary:
            body["parameters"] = {"binary_data_output": True}
        answer, said = self.post(connection, model, json.dumps(body))
        self.count["binary" if binary else "json"] += 1
        if answer.status != 200:
            self.problems.append(f"{model}, {rows} rows: {answer.status}: {said[:200]}")
            return
        self.check(answer, said, begin, end, embeddings)

    def check(self, answer, said, begin, end, embeddings):
        length = int(answer.headers.get("Inference-Header-Content-Length", len(said)))
        told = json.loads(said[:length])
        known = self.known[told["model_version"]]
        self.versions[told["model_version"]] += 1
        wanted = {"user": known.user, "tags": known.tags} if embeddings else {"logit": known.logits}
        at, found = length, 0
        for output in told["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size", 0)
            values = numpy.frombuffer(said[at : at + size], "<f4") if size else numpy.array(output["data"])
            at += size
            if output["name"] not in wanted:
                continue
            found += 1
            if not base.close(values.astype(float).reshape(output["shape"]), wanted[output["name"]][begin:end]):
                self.problems.append(f"version {told['model_version']}, rows {begin} to {end}: {output['name']} is another's")
        if found != len(wanted):
            self.problems.append(f"outputs are missing: {[o['name'] for o in told['outputs']]}")


def ranks_of(folder):
    """The server's processes."""
    found = []
    for command in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"shardbag") and str(folder).encode() in words:
            found.append(int(command.parent.name))
    return found


def memory(pids):
    """Resident bytes of each."""
    page = os.sysconf("SC_PAGE_SIZE")
    return [int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids]


def watch_memory(pids, until):
    """The medians of what was seen up to a time."""
    seen = []
    while time.time() < until or not seen:
        seen.append(memory(pids))
        time.sleep(0.05)
    return [statistics.median(column) for column in zip(*seen)]


def soak(build, ranks, seconds, checkpoints, rows, logits, folder):
    home = folder / f"soak-{ranks}"
    home.mkdir()
    base.put(checkpoints[0], home / "ckpt-1.h5")
    server = base.Server(build, ranks, home, "--watch", "0.5", "--batch-window", "200")
    base.check(f"{ranks} ranks serve", server.port > 0, server.first)
    known = {path.stem.split("-")[1]: Known(path, rows, l) for path, l in zip(checkpoints, logits)}
    pids = ranks_of(home)
    base.check(f"{ranks} ranks are found", len(pids) == ranks, pids)
    start = time.time()
    askers = [Asker(server.port, seed, rows, known) for seed in range(CLIENTS)]
    at = lambda share: max(0, start + share * seconds - time.time())
    time.sleep(at(1 / 6))
    base.put(checkpoints[1], home / "ckpt-2.h5")
    served = lambda: base.metric(server, 'shardbag_refreshes_total{outcome="served"}')
    base.check(f"{ranks} ranks: watched for", base.wait_for(lambda: served() == 1, 30))
    time.sleep(at(1 / 3))
    first = watch_memory(pids, start + 0.45 * seconds)
    base.put(checkpoints[0], home / "ckpt-3.h5")
    answer, said = server.ask("/v2/repository/models/shop/load", b"{}")
    base.check(f"{ranks} ranks: a call", answer.status == 200, said)
    time.sleep(at(2 / 3))
    base.put(checkpoints[1], home / "ckpt-4.h5")
    server.process.send_signal(signal.SIGHUP if ranks == 1 else signal.SIGUSR2)
    base.check(f"{ranks} ranks: signalled for", base.wait_for(lambda: served() == 3, 30))
    time.sleep(at(0.9))
    last = watch_memory(pids, start + seconds)
    for asker in askers:
        asker.ending.set()
    for asker in askers:
        asker.join(40)
    judge(server, ranks, askers, first, last, time.time() - start)


def judge(server, ranks, askers, first, last, seconds):
    count = sum((a.count for a in askers), collections.Counter())
    versions = sum((a.versions for a in askers), collections.Counter())
    problems = [p for a in askers for p in a.problems]
    mib = lambda values: ", ".join(f"{v / 2**20:.1f}" for v in values)
    print(f"{ranks} ranks: {sum(count.values())} requests in {seconds:.0f} s: {dict(count)}, by version {dict(versions)}; "
          f"MiB of the ranks after a third {mib(first)}, at the end {mib(last)}", flush=True)
    base.check(f"{ranks} ranks: no answer is wrong or lost", not problems, (len(problems), problems[:5]))
    base.check(f"{ranks} ranks: nobody waits for ever", not any(a.is_alive() for a in askers))
    base.check(f"{ranks} ranks: requests of all kinds", min(count[k] for k in ("json", "binary", "wrong")) > 0, count)
    base.check(f"{ranks} ranks: both checkpoints", len(versions) == 2, versions)
    base.check(f"{ranks} ranks: memory is flat", all(b - a < GROWTH_BYTES for a, b in zip(first, last)), (mib(first), mib(last)))
    overlapped = base.metric(server, "shardbag_batches_overlapped_total")
    base.check(f"{ranks} ranks: batches overlap", (overlapped > 0) == (ranks > 1), overlapped)
    served = base.metric(server, 'shardbag_refreshes_total{outcome="served"}')
    base.check(f"{ranks} ranks: three newer checkpoints", served == 3, served)
    code, out, err = server.end()
    said = [line for line in err.splitlines() if not line.startswith("mpirun: ")]
    base.check(f"{ranks} ranks: it ends", code == 0 and not said, (code, out, err))


def main():
    build, seconds = sys.argv[1], float(sys.argv[2])
    if not base.can_serve(build):
        print("skipped: this build has no libmicrohttpd")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows = base.Rows()
        checkpoints, logits = base.train(build, folder, rows)
        for ranks in (1, 2):
            soak(build, ranks, seconds / 2, checkpoints, rows, logits, folder)
    print(f"{base.passed} passed, {base.failed} failed")
    return 1 if base.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        for process in base.started:
            if process.poll() is None:
                process.kill()
