#!/usr/bin/python3
"""`shardbag serve` as its clients see it: test_serve.py BUILD_FOLDER.

Trains a small model, serves its checkpoint on 1, 2, 3 and 4 ranks, and compares answers with what `shardbag predict`
says of the same rows and with pools made of the checkpoint's rows by numpy; then wrong requests, many clients at a time,
overload, slow clients, newer checkpoints that take the served one's place or are refused, and how a server ends. With tritonclient[http] (in tools/triton of
the build's folder, where launch/check.sh puts it, or in TRITON_PYTHON=PROGRAM) that client asks too, and with promtool
(on PATH, or in tools/) the metrics are checked. Ends with `N passed, N failed`.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import h5py
import numpy

ROWS = 400
CONFIG = """
name: shop
data:
  kind: delimited
  delimited:
    path: {folder}/data.tsv
    delimiter: tab
    split: [0.6, 0.2, 0.2]
    columns:
      - {{name: label, kind: label}}
      - {{name: price, kind: dense}}
      - {{name: age, kind: dense}}
      - {{name: user, kind: one_hot, mapping: identity, rows: 50}}
      - {{name: tags, kind: multi_hot, mapping: identity, rows: 9, separator: space}}
table: {{dim: 4, optimizer: {{name: adagrad, lr: 0.125}}}}
tables:
  - {{name: user, layout: cyclic, ranks: [1], optimizer: {{name: rowwise_rmsprop, lr: 0.1}}}}
features:
  - {{name: tags, mode: sum}}
model: {{bottom: [8], top: [8], first_order: true, optimizer: {{name: adam, lr: 0.01}}}}
train: {{global_batch: 40}}
"""

passed = failed = 0
started = []  # processes; none may be left behind


def check(name, good, said=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print("FAIL ", name, said, flush=True)


class Server:
    """A server on some ranks; `ranks` 1 is without mpirun."""

    def __init__(self, build, ranks, checkpoint, *words):
        program = os.path.join(build, "shardbag")
        launch = [] if ranks == 1 else ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]
        self.process = subprocess.Popen(
            launch + [program, "serve", str(checkpoint), "--port", "0", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment(),
        )
        started.append(self.process)
        self.first = self.process.stdout.readline()
        found = re.search(r"https?://127\.0\.0\.1:(\d+)$", self.first.strip())
        self.port = int(found.group(1)) if found else 0
        self.tls = None  # an ssl.SSLContext

    def environment(self):
        """As a user's: OpenBLAS then has threads, older than main and blocking no signal."""
        ours = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return {name: value for name, value in os.environ.items() if name not in ours}

    def ask(self, path, body=None, headers=(), method=None):
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=self.tls)
        connection.request(method or ("GET" if body is None else "POST"), path, body, dict(headers))
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        return answer, said

    def infer(self, model, inputs, **more):
        answer, said = self.ask(f"/v2/models/{model}/infer", json.dumps({"inputs": inputs, **more}))
        return answer.status, json.loads(said)

    def end(self, number=signal.SIGUSR1):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def tensor(name, datatype, values, shape=None):
    values = numpy.asarray(values)
    return {"name": name, "datatype": datatype, "shape": list(shape or values.shape), "data": values.ravel().tolist()}


def output(said, name):
    found = next(o for o in said["outputs"] if o["name"] == name)
    return numpy.array(found["data"], dtype=numpy.float64).reshape(found["shape"])


class Rows:
    """The rows that all requests are made of."""

    def __init__(self):
        draw = random.Random(7)
        self.dense = [[round(draw.random(), 4), round(draw.gauss(0, 1), 4)] for _ in range(ROWS)]
        self.user = [draw.randrange(50) for _ in range(ROWS)]
        self.tags = [[draw.randrange(9) for _ in range(draw.randrange(4))] for _ in range(ROWS)]
        self.label = [int((u % 5 < 2) == (draw.random() < 0.8)) for u in self.user]

    def write(self, path):
        with open(path, "w", encoding="utf-8") as out:
            for i in range(ROWS):
                tags = " ".join(map(str, self.tags[i]))
                out.write(f"{self.label[i]}\t{self.dense[i][0]}\t{self.dense[i][1]}\t{self.user[i]}\t{tags}\n")

    def inputs(self, begin, end, lengths=False, dense=True):
        tags = self.tags[begin:end]
        sizes = [len(t) for t in tags]
        told = ("lengths", sizes) if lengths else ("offsets", numpy.cumsum([0] + sizes))
        made = [
            tensor("user", "INT64", self.user[begin:end], (end - begin, 1)),
            tensor("tags.values", "INT32", numpy.array(sum(tags, []), dtype=int)),
            tensor("tags." + told[0], "INT64", told[1]),
        ]
        return made + [tensor("dense", "FP32", self.dense[begin:end])] if dense else made


def run(build, ranks, *words):
    launch = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), os.path.join(build, "shardbag")]
    return subprocess.run([*launch, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def train(build, folder, rows):
    """The checkpoints, the oldest first, and what each of them predicts of all rows."""
    rows.write(folder / "data.tsv")
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    sets = (f"run.dir={folder}/run", "train.epochs=2", "checkpoint.every_steps=6")
    done = run(build, 2, "train", folder / "config.yaml", *(word for s in sets for word in ("--set", s)))
    check("training", done.returncode == 0, done.stderr)
    checkpoints = sorted((folder / "run").glob("ckpt-*.h5"), key=lambda path: int(path.stem.split("-")[1]))
    check("two checkpoints", len(checkpoints) == 2, checkpoints)
    logits = []
    for checkpoint in checkpoints:
        words = ("predict", checkpoint, folder / "config.yaml", "--input", folder / "data.tsv", "--format", "json")
        done = run(build, 2, *words)
        check("predicting", done.returncode == 0, done.stderr)
        logits.append(numpy.array([json.loads(line)["logit"] for line in done.stdout.splitlines()]))
    sets = (f"run.dir={folder}/wide", "train.epochs=1", "table.dim=6")
    done = run(build, 2, "train", folder / "config.yaml", *(word for s in sets for word in ("--set", s)))
    check("training wider tables", done.returncode == 0, done.stderr)
    (folder / "data.tsv").unlink()  # a server needs no data
    return checkpoints, logits


def pools(checkpoint, rows, begin, end):
    with h5py.File(checkpoint) as file:
        user, tags = (file[f"tables/{t}/weight"][()].astype(numpy.float64) for t in ("user", "tags"))
    sums = [tags[t].sum(axis=0) if t else numpy.zeros(4) for t in rows.tags[begin:end]]
    return user[rows.user[begin:end]], numpy.array(sums)


def close(a, b):
    return a.shape == b.shape and bool(numpy.all(numpy.abs(a - b) < 2e-5 * (1 + numpy.abs(b))))


def check_answers(name, server, checkpoint, rows, logits):
    for begin, end, lengths in ((0, 1, False), (5, 12, True), (0, ROWS, False)):
        status, said = server.infer("shop", rows.inputs(begin, end, lengths), id="x1")
        check(f"{name}: rows {begin} to {end}", status == 200 and said.get("id") == "x1", said)
        if status != 200:
            continue
        check(f"{name}: logits", close(output(said, "logit"), logits[begin:end]))
        wanted = 1 / (1 + numpy.exp(-logits[begin:end]))
        check(f"{name}: probabilities", close(output(said, "probability"), wanted))
    status, said = server.infer("shop/embeddings", rows.inputs(3, 40, dense=False))
    user, tags = pools(checkpoint, rows, 3, 40)
    check(f"{name}: embeddings", status == 200 and close(output(said, "user"), user) and close(output(said, "tags"), tags))
    weights = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    inputs = [tensor("tags", "INT64", [[1, 1, 2], [8, 0, 0]]), tensor("tags.weights", "FP32", weights)]
    status, said = server.infer("shop/embeddings", inputs, outputs=[{"name": "tags"}])
    with h5py.File(checkpoint) as file:
        tags = file["tables/tags/weight"][()].astype(numpy.float64)
    wanted = numpy.array([tags[1] + 2 * tags[2], 3 * tags[8] + 9 * tags[0]])
    check(f"{name}: weights", status == 200 and len(said["outputs"]) == 1 and close(output(said, "tags"), wanted), said)


def check_binary(server, rows, logits):
    values = numpy.array(sum(rows.tags[:9], []), dtype="<i8").tobytes()
    offsets = numpy.cumsum([0] + [len(t) for t in rows.tags[:9]]).astype("<i4").tobytes()
    blobs = [numpy.array(rows.dense[:9], dtype="<f4").tobytes(), numpy.array(rows.user[:9], dtype="<i8").tobytes(), values, offsets]
    names = [("dense", "FP32", [9, 2]), ("user", "INT64", [9]), ("tags.values", "INT64", [len(values) // 8]), ("tags.offsets", "INT32", [10])]
    inputs = [
        {"name": n, "datatype": t, "shape": s, "parameters": {"binary_data_size": len(b)}}
        for (n, t, s), b in zip(names, blobs)
    ]
    head = json.dumps({"inputs": inputs, "outputs": [{"name": "logit", "parameters": {"binary_data": True}}, {"name": "probability"}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer, said = server.ask("/v2/models/shop/versions/%s/infer" % server.version, head + b"".join(blobs), headers)
    check("binary", answer.status == 200, said)
    length = int(answer.headers["Inference-Header-Content-Length"])
    told = json.loads(said[:length])
    check("binary logits", close(numpy.frombuffer(said[length:], "<f4").astype(float), logits[:9]))
    check("binary size", told["outputs"][0]["parameters"]["binary_data_size"] == 36 and "data" not in told["outputs"][0])
    answer, said = server.ask("/v2/models/shop/infer", head + b"".join(blobs)[:-1], headers)
    check("a binary header that lies", answer.status == 400 and b"'tags.offsets'" in said, said)
    answer, said = server.ask("/v2/models/shop/infer", head, {"Inference-Header-Content-Length": "abc"})
    check("a header length that is none", answer.status == 400, said)


def check_protocol(server):
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/shop/ready", "/v2/models/shop/embeddings/ready"):
        check(path, server.ask(path)[0].status == 200)
    server.version = json.loads(server.ask("/v2/models/shop")[1])["versions"][0]
    check("a version", server.ask(f"/v2/models/shop/versions/{server.version}")[0].status == 200)
    check("another version", server.ask("/v2/models/shop/versions/999")[0].status == 404)
    check("another model", server.ask("/v2/models/shopping")[0].status == 404)
    check("server", json.loads(server.ask("/v2")[1])["name"] == "shardbag")
    check("config", json.loads(server.ask("/v2/models/shop/config")[1])["max_batch_size"] == 0)
    index = json.loads(server.ask("/v2/repository/index", b"{}")[1])
    check("index", [m["name"] for m in index] == ["shop", "shop/embeddings"], index)
    check("a wrong method", server.ask("/v2/models/shop/infer")[0].status == 405)
    check("nothing there", server.ask("/v3")[0].status == 404)


def check_refusals(server, rows):
    good = rows.inputs(0, 2)
    wrong = [
        (b"{", "the text ends"),
        (b'{"inputs":[]}', "no inputs"),
        (json.dumps({"inputs": good[:-1]}), "'dense' is missing"),
        (json.dumps({"inputs": good + [tensor("item", "INT64", [1, 2])]}), "'item'"),
        (json.dumps({"inputs": [tensor("user", "INT64", [50, 1])] + good[1:]}), "'user': the index at position 0 is 50"),
        (json.dumps({"inputs": [tensor("user", "FP32", [1, 1])] + good[1:]}), "'user': its datatype"),
        (json.dumps({"inputs": [tensor("user", "INT64", [1, 1, 1])] + good[1:]}), "samples"),
        (json.dumps({"inputs": good, "outputs": [{"name": "score"}]}), "'score'"),
    ]
    for body, said in wrong:
        answer, told = server.ask("/v2/models/shop/infer", body)
        error = json.loads(told).get("error", "")
        check(f"refuses {said}", answer.status == 400 and said in error and "\n" not in error, told)
    answer, _ = server.ask("/v2/models/shop/infer", b"x", {"Content-Encoding": "gzip"})
    check("an encoding", answer.status == 415)
    check("still there", server.infer("shop", good)[0] == 200)


def check_many(server, rows, logits):
    """Requests of several clients at a time share look-ups, and each gets its own answer."""

    def one(i):
        begin = (7 * i) % 300
        end = begin + 1 + i % 9
        if i % 10 == 9:
            return server.infer("shop", [tensor("user", "INT64", [99])])[0] == 400
        status, said = server.infer("shop", rows.inputs(begin, end, i % 2))
        return status == 200 and close(output(said, "logit"), logits[begin:end])

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        check("many clients", all(pool.map(one, range(200))))


def check_overlap(name, server, ranks, rows, logits, pooled):
    """Both models asked at a time make batches that wait: two are under way where others than rank 0 own rows, and
    answers are as ever."""

    def one(i):
        begin = (11 * i) % 300
        end = begin + 1 + i % 70
        if i % 2:
            status, said = server.infer("shop", rows.inputs(begin, end))
            return status == 200 and close(output(said, "logit"), logits[begin:end])
        status, said = server.infer("shop/embeddings", rows.inputs(begin, end, dense=False))
        return status == 200 and all(close(output(said, n), p[begin:end]) for n, p in zip(("user", "tags"), pooled))

    overlapped = lambda: metric(server, "shardbag_batches_overlapped_total")
    end, good = time.time() + 10, True
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        good &= all(pool.map(one, range(150)))
        while ranks > 1 and overlapped() == 0 and time.time() < end:
            good &= all(pool.map(one, range(150)))
    check(f"{name}: two models at a time", good)
    check(f"{name}: batches overlap", (overlapped() > 0) == (ranks > 1), overlapped())


def check_metrics(build, server, ranks):
    answer, said = server.ask("/metrics")
    text = said.decode()
    check("metrics", answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
    value = lambda name: float(re.search("^" + re.escape(name) + r" (\S+)$", text, re.M).group(1))
    check("requests are counted", value('shardbag_requests_total{model="shop"}') > 100)
    check("errors are counted", value('shardbag_errors_total{kind="bad_request"}') > 10)
    check("batches are counted", 0 < value("shardbag_batch_requests_count") <= value("shardbag_batch_requests_sum"))
    owned = [value(f'shardbag_lookups_total{{table="tags",rank="{r}"}}') for r in range(ranks)]
    check("look-ups by rank", min(owned) > 0, owned)
    moved = [value(f'shardbag_exchange_bytes_total{{direction="{way}"}}') for way in ("sent", "received")]
    check("bytes exchanged", min(moved) > 1000 if ranks > 1 else max(moved) == 0, moved)
    promtool = shutil.which("promtool") or shutil.which("promtool", path=os.path.join(build, "tools"))
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
        check("promtool", done.returncode == 0 and not done.stderr, done.stderr)
    else:
        print("skipped: promtool is neither on PATH nor in the build's tools/ (Debian: prometheus)")


def idle_share(server):
    """Of a core, over all of the job's processes."""

    def used():
        total = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
                command = pathlib.Path(stat.parent / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if b"serve\0" in command and f"ckpt-".encode() in command and str(server.folder).encode() in command:
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(2)
    return (used() - before) / 2


TRITON = r"""
import sys, numpy, tritonclient.http as http
port, expected = sys.argv[1], numpy.load(sys.argv[2])
client = http.InferenceServerClient("127.0.0.1:" + port)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("shop")
assert client.get_server_metadata()["name"] == "shardbag"
assert client.get_model_metadata("shop")["name"] == "shop"
assert client.get_model_metadata("shop/embeddings")["outputs"]
assert client.get_model_config("shop")["platform"] == "shardbag"
assert len(client.get_model_repository_index()) == 2
client.load_model("shop")
def inputs(binary):
    made = []
    for name in ("dense", "user", "tags.values", "tags.offsets"):
        values = expected[name]
        made.append(http.InferInput(name, list(values.shape), "FP32" if values.dtype == numpy.float32 else "INT64"))
        made[-1].set_data_from_numpy(values, binary_data=binary)
    return made
for binary in (False, True):
    wanted = [http.InferRequestedOutput("logit", binary_data=binary)]
    result = client.infer("shop", inputs(binary), outputs=wanted, request_id="t1")
    assert result.get_response()["id"] == "t1"
    assert numpy.allclose(result.as_numpy("logit"), expected["logit"], atol=1e-5)
waiting = [client.async_infer("shop", inputs(True)) for _ in range(20)]
assert all(numpy.allclose(w.get_result().as_numpy("logit"), expected["logit"], atol=1e-5) for w in waiting)
try:
    client.infer("shop", inputs(True)[1:])
    raise SystemExit("a missing input is taken")
except http.InferenceServerException as error:
    assert "'dense' is missing" in str(error), error
"""


def check_triton(build, server, folder, rows, logits):
    python, environ = os.environ.get("TRITON_PYTHON", sys.executable), dict(os.environ)
    if "TRITON_PYTHON" not in environ:
        environ["PYTHONPATH"] = os.path.abspath(os.path.join(build, "tools", "triton"))
    if subprocess.run([python, "-c", "import tritonclient.http"], capture_output=True, timeout=60, env=environ).returncode != 0:
        print(f"skipped: {python} has no tritonclient[http], nor the build's tools/; TRITON_PYTHON=PROGRAM names one that has")
        return
    tags = rows.tags[:20]
    numpy.savez(
        folder / "expected.npz", **{"tags.values": numpy.array(sum(tags, []), dtype=numpy.int64),
        "tags.offsets": numpy.cumsum([0] + [len(t) for t in tags]).astype(numpy.int64)},
        dense=numpy.array(rows.dense[:20], dtype=numpy.float32), user=numpy.array(rows.user[:20], dtype=numpy.int64), logit=logits[:20],
    )
    done = subprocess.run([python, "-c", TRITON, str(server.port), str(folder / "expected.npz")], capture_output=True, text=True, timeout=60, env=environ)
    check("tritonclient", done.returncode == 0, done.stderr)


def check_slow(server):
    """A client that dribbles is cut off; others are answered meanwhile."""
    slow = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    slow.sendall(b"POST /v2/models/shop/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    start, cut = time.time(), False
    slow.settimeout(0.2)
    while time.time() - start < 8 and not cut:
        try:
            slow.sendall(b" ")
            cut = slow.recv(1) == b""
        except socket.timeout:
            pass
        except OSError:
            cut = True
        check_ready = server.ask("/v2/health/ready")[0].status == 200
    check("a slow client is cut off", cut and 0.5 < time.time() - start < 6, time.time() - start)
    check("others are answered", check_ready)


def cut_off(connection, seconds, dribble=b""):
    """Seconds until the server closes a connection, to which bytes may go meanwhile; None: it does not."""
    start = time.time()
    connection.settimeout(0.1)
    while time.time() - start < seconds:
        try:
            if dribble:
                connection.sendall(dribble)
                time.sleep(0.05)
            if connection.recv(1 << 16) == b"":
                return time.time() - start
        except socket.timeout:
            pass
        except OSError:
            return time.time() - start
    return None


def check_limits(build, checkpoint, rows):
    """What a client can take: connections, time, tensors, indices of a bag, samples."""
    words = ("--max-connections", "6", "--request-time", "1", "--idle-time", "1.5", "--max-inputs", "5", "--max-bag", "3", "--max-batch", "4")
    server = Server(build, 1, checkpoint, *words)
    address = ("127.0.0.1", server.port)
    good = rows.inputs(0, 2)
    bags = lambda lengths: [tensor("tags.values", "INT64", [1] * sum(lengths)), tensor("tags.lengths", "INT64", lengths)]
    for inputs, said in (
        (good + [tensor(f"x{i}", "INT64", [1]) for i in range(2)], "more than 5 inputs"),
        ([good[0], *bags([1, 4]), good[-1]], "'tags.lengths'"),
        (rows.inputs(0, 5), "samples"),
    ):
        status, told = server.infer("shop", inputs)
        check(f"a limit: {said}", status == 400 and said in told.get("error", ""), told)
    check("within the limits", server.infer("shop", [tensor("user", "INT64", [1, 2]), *bags([1, 3]), good[-1]])[0] == 200)
    idle = socket.create_connection(address, timeout=20)
    took = cut_off(idle, 8)
    check("an idle connection is closed", took is not None and took > 0.5, took)
    header = socket.create_connection(address, timeout=20)
    header.sendall(b"POST /v2/models/shop/infer HTTP/1.1\r\nX-Slow: ")
    took = cut_off(header, 8, b"a")
    check("so are headers that dribble", took is not None, took)
    many = [socket.create_connection(address, timeout=0.1) for _ in range(10)]
    for connection in many:
        connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    answered = sum(has_answer(connection) for connection in many)
    check("connections beyond the limit wait", 2 <= answered <= 6, answered)
    for connection in many:
        connection.close()
    check("and others come again", wait_for(lambda: answers(server)))
    code, out, err = server.end()
    check("limits end", code == 0 and not err, (code, out, err))


def has_answer(connection):
    try:
        return b"200 OK" in connection.recv(1 << 10)
    except OSError:
        return False


def answers(server):
    try:
        return server.ask("/v2/health/ready")[0].status == 200
    except (OSError, http.client.HTTPException):
        return False


def check_options(build, checkpoint, folder, rows, logits):
    token = folder / "token"
    token.write_text("secret\n")
    log = folder / "access.json"
    words = ["--token-file", str(token), "--json", str(log), "--max-body", "3000", "--dtype", "f32", "--request-time", "1", "--batch-window", "2000"]
    server = Server(build, 1, checkpoint, *words)
    bearer = {"Authorization": "Bearer secret"}
    check("no token", server.ask("/v2/models/shop")[0].status == 401)
    check("a wrong token", server.ask("/v2/models/shop", headers={"Authorization": "Bearer secreT"})[0].status == 401)
    check("the token", server.ask("/v2/models/shop", headers=bearer)[0].status == 200)
    body = json.dumps({"inputs": rows.inputs(0, 2)})
    answer, said = server.ask("/v2/models/shop/infer", body, bearer)
    check("a window", answer.status == 200 and close(output(json.loads(said), "logit"), logits[:2]))
    answer, said = server.ask("/v2/models/shop/infer", body + 3000 * " ", bearer)
    check("a large body", answer.status == 413, said)
    code, out, err = server.end(signal.SIGTERM)
    check("SIGTERM ends it", code == 0 and "served 1 requests" in out and not err, (code, out, err))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # A line is written when its reply is gone, by the thread of its connection: the next request's may come first.
    asked = {l["status"]: l for l in lines if l["event"] == "request" and l["method"] == "POST"}
    statuses = sorted((l["status"], l["level"]) for l in lines if l["event"] == "request")
    wanted = [(200, "info"), (200, "info"), (401, "warn"), (401, "warn"), (413, "warn")]
    check("the access log", statuses == wanted and asked[200]["samples"] == 2, lines)
    check("what else it has", [lines[0]["event"], lines[-1]["event"]] == ["serving", "ended"] and len(lines) == 7, lines)
    check("why a request was refused", "--max-body" in asked[413]["reply"]["error"] and "reply" not in asked[200], lines)


def check_levels(build, checkpoint, folder, rows):
    """--log-level: what the log has, and stderr."""
    requests = lambda lines: sorted(l["status"] for l in lines if l["event"] == "request")
    for level, statuses in (("error", []), ("warn", [400, 400, 404]), ("info", [200, 400, 400, 404]), ("debug", [200, 400, 400, 404])):
        home, log = folder / f"log-{level}", folder / f"log-{level}.json"
        home.mkdir()
        put(checkpoint, home / "ckpt-12.h5")
        server = Server(build, 1, home, "--json", str(log), "--log-level", level)
        check(f"{level}: serves", server.infer("shop", rows.inputs(0, 2), id='a"b')[0] == 200, server.first)
        server.ask("/v2/models/none")
        server.infer("shop", [tensor("user", "INT64", [99])])
        put(checkpoint, home / "ckpt-13.h5", middle_of(checkpoint, "tables/tags/weight"))
        check(f"{level}: refused", call_load(server)[0] == 400)
        (home / "ckpt-13.h5").unlink()
        code, out, err = server.end()
        check(f"{level}: ends", code == 0 and "served 1 requests" in out, (code, out, err))
        check(f"{level}: stderr", ("a checkpoint is refused" in err) == (level != "error"), err)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        check(f"{level}: requests", requests(lines) == statuses, lines)
        kinds = {l["event"] for l in lines}
        check(f"{level}: events", ("refused" in kinds) == (level != "error") and ("serving" in kinds) == (level in ("info", "debug")), kinds)
        first = next((l for l in lines if l.get("samples")), {})
        wanted = {"info": 'a"b', "debug": 'a"b'}.get(level)
        check(f"{level}: times by stage", first.get("id") == wanted and ("compute_s" in first) == (level == "debug"), first)
    done = subprocess.run(
        [os.path.join(build, "shardbag"), "serve", str(checkpoint), "--log-level", "loud"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
    )
    check("no such level", done.returncode == 2 and "error, warn, info or debug" in done.stderr, done.stderr)


def check_end(build, checkpoint, rows, logits):
    """What was taken in before the signal is answered; a full queue refuses at once, and says when to come again."""
    server = Server(build, 2, checkpoint, "--batch-window", "700000", "--queue", "2", "--max-batch", "4000")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(server.ask, "/v2/models/shop/infer", json.dumps({"inputs": rows.inputs(i, i + 3)})) for i in range(6)]
        time.sleep(0.25)
        server.process.send_signal(signal.SIGUSR1)
        answers = [w.result() for w in waiting]
    took = [i for i, (answer, _) in enumerate(answers) if answer.status == 200]
    check("two wait, four are refused", len(took) == 2, [a.status for a, _ in answers])
    check("right to the last", all(close(output(json.loads(answers[i][1]), "logit"), logits[i : i + 3]) for i in took))
    refused = [a for a, _ in answers if a.status == 503]
    check("when to come again", len(refused) == 4 and all(a.headers["Retry-After"] == "1" for a in refused))
    out, err = server.process.communicate(timeout=30)
    check("SIGUSR1 ends it", server.process.returncode == 0 and "served 2 requests" in out, (out, err))


def check_late(build, checkpoint, rows, logits):
    """With many in hand, a request that nobody has read for long is refused; with any wait allowed it is not."""
    for words, wanted in (([], 503), (["--max-wait", "0"], 200)):
        server = Server(build, 1, checkpoint, "--batch-window", "900000", "--max-batch", "400", *words)
        late = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        late.connect()
        with concurrent.futures.ThreadPoolExecutor(36) as pool:
            waiting = [pool.submit(server.infer, "shop", rows.inputs(i, i + 1)) for i in range(36)]
            wait_for(lambda: metric(server, "shardbag_queue_requests") == 36, 0.8)
            server.process.send_signal(signal.SIGSTOP)
            late.request("POST", "/v2/models/shop/infer", json.dumps({"inputs": rows.inputs(0, 1)}))
            time.sleep(0.2)
            server.process.send_signal(signal.SIGCONT)
            answer = late.getresponse()
            said = answer.read()
            check(f"late {words}: refused at once", answer.status == wanted, (answer.status, said))
            check(f"late {words}: when to come again", answer.status == 200 or answer.headers["Retry-After"] == "1")
            answers = [w.result() for w in waiting]
        check(f"late {words}: the others are answered", all(s == 200 and close(output(a, "logit"), logits[i : i + 1]) for i, (s, a) in enumerate(answers)))
        check(f"late {words}: it recovers", server.infer("shop", rows.inputs(0, 1))[0] == 200)
        late.close()
        code, out, err = server.end()
        check(f"late {words}: ends", code == 0, (code, out, err))


def check_narrow(build, checkpoint, rows, logits):
    """Tables in int8: near, and not the same."""
    server = Server(build, 2, checkpoint, "--dtype", "int8", "--name", "narrow/shop")
    status, said = server.infer("narrow/shop", rows.inputs(0, 100))
    off = numpy.abs(output(said, "logit") - logits[:100]).max() if status == 200 else said
    check("int8", status == 200 and 0 < off < 0.1, off)
    code, out, err = server.end()
    check("int8 ends", code == 0, (code, out, err))


def ranks_of(checkpoint, rank):
    """The processes that serve it as this rank."""
    found = []
    for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            words = environ.read_bytes().split(b"\0")
            command = (environ.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if b"OMPI_COMM_WORLD_RANK=%d" % rank in words and str(checkpoint).encode() in command:
            found.append(int(environ.parent.name))
    return found


def check_stall(build, checkpoint, rows):
    """A rank that is stopped: not ready, 503, and soon the job's end with a line that says why."""
    server = Server(build, 2, checkpoint, "--timeout", "4")
    found = ranks_of(checkpoint, 1)
    check("the other rank", len(found) == 1, found)
    if len(found) != 1:
        return
    os.kill(found[0], signal.SIGSTOP)
    start = time.time()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:  # of two models, so that batches wait behind the first
        parts = [("shop", rows.inputs(0, 2)), ("shop/embeddings", rows.inputs(0, 2, dense=False))]
        stuck = [pool.submit(server.infer, *parts[i % 2]) for i in range(4)]
        time.sleep(2)
        check("not ready", server.ask("/v2/health/ready")[0].status == 503)
        check("alive", server.ask("/v2/health/live")[0].status == 200)
        check("refused", server.infer("shop", rows.inputs(0, 2))[0] == 503)
        for one in stuck:
            try:
                check("one that waited", one.result()[0] in (500, 503))
            except (OSError, http.client.HTTPException):
                check("one that waited sees the connection close", True)
    out, err = server.process.communicate(timeout=30)
    said = [line for line in err.splitlines() if line.startswith("shardbag serve: ")]
    check("it says so, ends and says why", server.process.returncode != 0 and len(said) == 2 and time.time() - start < 15, (out, err))
    check("in this order", "a rank does not answer" in said[0] and "rank 1" in said[-1], err)


def check_death(build, checkpoint, rows):
    """A rank that dies: mpirun ends the job within seconds, and clients see their connections close."""
    server = Server(build, 2, checkpoint)
    found = ranks_of(checkpoint, 1)
    check("the rank to die", len(found) == 1, found)
    if len(found) != 1:
        return
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    client.request("GET", "/v2/health/ready")
    check("ready before", client.getresponse().read() == b"")
    start = time.time()
    os.kill(found[0], signal.SIGKILL)
    server.process.communicate(timeout=30)
    check("the job ends", server.process.returncode != 0 and time.time() - start < 10, time.time() - start)
    try:
        client.request("GET", "/v2/health/ready")
        gone = client.getresponse().status != 200
    except (OSError, http.client.HTTPException):
        gone = True
    check("the connection is closed", gone)


def put(checkpoint, path, damage=None):
    """A checkpoint comes into a folder as training puts it there, in one go; a byte of it may be another."""
    data = bytearray(checkpoint.read_bytes())
    if damage is not None:
        data[damage] ^= 1
    temporary = path.with_suffix(".part")
    temporary.write_bytes(data)
    temporary.rename(path)


def wait_for(condition, seconds=10):
    end = time.time() + seconds
    while not condition() and time.time() < end:
        time.sleep(0.02)
    return condition()


class Client(threading.Thread):
    """Asks all the time, and holds each answer against the checkpoint that it names."""

    def __init__(self, server, rows, known):
        super().__init__(daemon=True)
        self.server, self.rows, self.known = server, rows, known
        self.ending = threading.Event()
        self.wrong, self.versions, self.ready = [], [], True
        self.start()

    def run(self):
        i = 0
        while not self.ending.is_set():
            i += 1
            begin, end = i % 300, i % 300 + 1 + i % 60
            try:
                status, said = self.server.infer("shop", self.rows.inputs(begin, end))
                self.ready &= self.server.ask("/v2/health/ready")[0].status == 200
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                continue
            version = said.get("model_version")
            if status != 200 or not close(output(said, "logit"), self.known[version][begin:end]):
                self.wrong.append(said)
            if not self.versions or self.versions[-1] != version:
                self.versions.append(version)

    def end(self):
        self.ending.set()
        self.join(30)
        return self.wrong


def version(server):
    return json.loads(server.ask("/v2/models/shop")[1])["versions"][0]


def metric(server, name):
    text = server.ask("/metrics")[1].decode()
    return float(re.search("^" + re.escape(name) + r" (\S+)$", text, re.M).group(1))


def middle_of(checkpoint, name):
    with h5py.File(checkpoint) as file:
        data = file[name]
        return data.id.get_offset() + data.id.get_storage_size() // 2


def check_refresh(build, ranks, checkpoints, folder, rows, logits):
    """Newer checkpoints under load: by watching, and by a signal; one that is no good is refused. With few ranks also
    by a call, and what else is refused."""
    old, new = checkpoints
    known = {"6": logits[0], "12": logits[1]}
    name = f"{ranks} ranks, refresh"
    home = folder / f"served-{ranks}"
    home.mkdir()
    put(old, home / "ckpt-6.h5")
    server = Server(build, ranks, home, "--watch", "0.2")
    check(f"{name}: a folder is served", version(server) == "6", server.first)
    client = Client(server, rows, known)
    check(f"{name}: answers", wait_for(lambda: client.versions == ["6"]))
    put(new, home / "ckpt-12.h5")
    check(f"{name}: watched", wait_for(lambda: version(server) == "12" and client.versions[-1:] == ["12"]))
    check(f"{name}: its step", metric(server, "shardbag_checkpoint_step") == 12)
    put(old, home / "ckpt-20.h5", middle_of(old, "tables/tags/weight"))
    refused = lambda: metric(server, 'shardbag_refreshes_total{outcome="refused"}')
    check(f"{name}: a damaged one is refused", wait_for(lambda: refused() == 1) and version(server) == "12")
    if ranks < 3:
        check_refusals_of_load(name, server, home, folder, refused)
    put(old, home / "ckpt-40.h5")
    server.process.send_signal(signal.SIGHUP if ranks == 1 else signal.SIGUSR2)
    check(f"{name}: asked by a signal", wait_for(lambda: client.versions[-1:] == ["6"]))
    if ranks < 3:
        check_going_back(name, server, home)
        check(f"{name}: answers go back", wait_for(lambda: client.versions[-1:] == ["12"]))
    wrong = client.end()
    versions = ["6", "12", "6", "12"][: 4 if ranks < 3 else 3]
    check(f"{name}: every answer is one checkpoint's", not wrong and client.versions == versions, (wrong[:2], client.versions))
    check(f"{name}: ready all the time", client.ready)
    code, out, err = server.end()
    lines = [line for line in err.splitlines() if line.startswith("shardbag serve: a checkpoint is refused, step 12 goes on: ")]
    good = len(lines) == (4 if ranks < 3 else 1) and "rows" in lines[0] and out.count("in place of step") == len(versions) - 1
    check(f"{name}: ends", code == 0 and good, (code, out, err))


def call_load(server):
    answer, said = server.ask("/v2/repository/models/shop/load", b"{}")
    return answer.status, said


def check_refusals_of_load(name, server, home, folder, refused):
    status, said = call_load(server)
    check(f"{name}: and says why", status == 400 and b"'tables/tags/weight': rows" in said, said)
    put(next((folder / "wide").glob("ckpt-*.h5")), home / "ckpt-30.h5")
    check(f"{name}: other outputs are refused", wait_for(lambda: refused() == 3) and version(server) == "12")
    status, said = call_load(server)
    check(f"{name}: and say so", status == 400 and b"output 'user'" in said, said)


def check_going_back(name, server, home):
    for step in (40, 30, 20):
        (home / f"ckpt-{step}.h5").unlink()
    time.sleep(0.5)
    check(f"{name}: watching does not go back", version(server) == "6")
    for _ in range(2):  # then there is nothing newer
        status, said = call_load(server)
        check(f"{name}: a call does", status == 200 and json.loads(said)["version"] == "12", said)
    answer, said = server.ask("/v2/repository/models/shop/embeddings/unload", b"{}")
    check(f"{name}: no unloading", answer.status == 400, said)


def check_mapped(build, checkpoints, folder, rows, logits):
    """Served from the file: the same numbers; what is damaged is found when it is looked up, and nothing else."""
    old, new = checkpoints
    home = folder / "mapped"
    home.mkdir()
    for ranks, layout in ((1, "cyclic"), (1, "scramble"), (3, "block")):  # on one rank all are the file's order
        name = f"mapped, {ranks} ranks, {layout}"
        put(old, home / "ckpt-6.h5", middle_of(old, "tables/tags/weight"))
        server = Server(build, ranks, home / "ckpt-6.h5", "--mmap", "--set", f"tables.0.layout={layout}")
        check(f"{name}: serves", server.port > 0, server.first)
        user = [tensor("user", "INT64", rows.user[:20])]
        status, said = server.infer("shop/embeddings", user)
        check(f"{name}: a table that is whole", status == 200 and close(output(said, "user"), pools(old, rows, 0, 20)[0]), said)
        for _ in range(2):
            status, said = server.infer("shop", rows.inputs(0, ROWS))
            check(f"{name}: a damaged one", status == 500 and "table 'tags' is damaged: rows 0 to 8" in said.get("error", ""), said)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(server.infer, "shop", rows.inputs(0, 9)) if i % 2 else pool.submit(server.infer, "shop/embeddings", user) for i in range(20)]
        check(f"{name}: each its own", [job.result()[0] for job in jobs] == 10 * [200, 500])
        put(new, home / "ckpt-12.h5")
        check(f"{name}: a newer one", call_load(server)[0] == 200)
        status, said = server.infer("shop", rows.inputs(0, ROWS))
        check(f"{name}: is whole", status == 200 and close(output(said, "logit"), logits[1]), said)
        code, out, err = server.end()
        check(f"{name}: ends", code == 0, (code, out, err))
        (home / "ckpt-12.h5").unlink()
    words = [os.path.join(build, "shardbag"), "serve", str(old), "--mmap", "--dtype", "int8"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    check("mapped: no other type", done.returncode == 2 and "--dtype" in done.stderr, done.stderr)
    done = run(build, 2, "serve", old, "--mmap", "--port", "0", "--set", "tables.0.ranks=[0,1]")
    check("mapped: no rounds", done.returncode == 2 and "table 'user'" in done.stderr and "blocks" in done.stderr, done.stderr)


def check_memory(build, checkpoints, folder, rows):
    """No memory for a second one: it is refused, and the first goes on."""
    home = folder / "served-tight"
    home.mkdir()
    put(checkpoints[0], home / "ckpt-6.h5")
    server = Server(build, 1, home / "ckpt-6.h5")
    check("a file is served", server.infer("shop", rows.inputs(0, 2))[1].get("model_version") == "6")
    put(checkpoints[1], home / "ckpt-12.h5")
    pid = server.process.pid
    used = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (used + (16 << 20), limits[1]))
    status, said = call_load(server)
    check("no memory for it", status == 500 and b"no memory for it" in said, said)
    check("the first goes on", server.infer("shop", rows.inputs(0, 2))[1].get("model_version") == "6")
    resource.prlimit(pid, resource.RLIMIT_AS, limits)
    status, said = call_load(server)
    check("memory for it", status == 200 and version(server) == "12", said)
    code, out, err = server.end()
    check("memory: ends", code == 0 and err.count("no memory for it") == 1, (code, out, err))


def check_tls(build, checkpoint, folder, rows, logits):
    if not shutil.which("openssl"):
        print("skipped: openssl is not here")
        return
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    done = subprocess.run(["openssl", *words, "-keyout", str(key), "-out", str(cert)], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    check("a certificate", done.returncode == 0, done.stderr)
    server = Server(build, 1, checkpoint, "--tls-cert", str(cert), "--tls-key", str(key))
    check("https", "https://" in server.first, server.first)
    server.tls = ssl.create_default_context(cafile=str(cert))
    status, said = server.infer("shop", rows.inputs(0, ROWS))
    check("TLS", status == 200 and close(output(said, "logit"), logits))
    check_many(server, rows, logits)
    server.tls = None
    try:
        answered = server.ask("/v2/health/live")[0].status == 200
    except (OSError, http.client.HTTPException):
        answered = False
    check("without TLS nothing is answered", not answered)
    code, out, err = server.end()
    check("TLS ends", code == 0, (code, out, err))
    program = os.path.join(build, "shardbag")
    other = folder / "other.pem"
    other.write_text(cert.read_text().replace("CERTIFICATE", "PRIVATE KEY"))
    for words, said in (
        (["--tls-cert", str(cert)], "given together"),
        (["--tls-cert", str(folder / "no.pem"), "--tls-key", str(key)], "no.pem: cannot be read: No such file"),
        (["--tls-cert", str(cert), "--tls-key", str(cert)], "is no PEM file"),
        (["--tls-cert", str(cert), "--tls-key", str(other)], "not a certificate and its key"),
    ):
        done = subprocess.run([program, "serve", str(checkpoint), "--port", "0", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        check(f"TLS: {said}", done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr)


def check_usage(build, folder):
    program = os.path.join(build, "shardbag")
    for words, said in (
        ([str(folder / "none.h5")], "cannot open the checkpoint"),
        ([str(folder)], "holds no checkpoint"),
        (["x.h5", "--port", "70000"], "--port"),
        ([], "arguments are missing"),
    ):
        done = subprocess.run([program, "serve", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        check(f"usage: {said}", done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr)


def can_serve(build):
    words = [os.path.join(build, "shardbag"), "serve", "/"]
    probe = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    return "without libmicrohttpd" not in probe.stderr


def main():
    build = sys.argv[1]
    if not can_serve(build):
        print("skipped: this build has no libmicrohttpd")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows = Rows()
        checkpoints, all_logits = train(build, folder, rows)
        checkpoint, logits = checkpoints[-1], all_logits[-1]
        for ranks in (1, 2, 3, 4):
            server = Server(build, ranks, checkpoint, "--request-time", "1.5")
            server.folder = folder
            check(f"{ranks} ranks serve", server.port > 0, server.first or server.process.stderr.read())
            if server.port == 0:
                continue
            check_answers(f"{ranks} ranks", server, checkpoint, rows, logits)
            check_overlap(f"{ranks} ranks", server, ranks, rows, logits, pools(checkpoint, rows, 0, ROWS))
            if ranks in (1, 3):
                check_protocol(server)
                check_binary(server, rows, logits)
                check_refusals(server, rows)
                check_many(server, rows, logits)
                check_metrics(build, server, ranks)
            if ranks == 1:
                check_triton(build, server, folder, rows, logits)
                check_slow(server)
            if ranks == 3:
                time.sleep(1.2)  # until the others sleep longest
                share = idle_share(server)
                print(f"idle on 3 ranks: {share:.3f} of a core")
                check("an idle server does not spin", share < 0.3, share)
            code, out, err = server.end()
            check(f"{ranks} ranks end", code == 0 and "served" in out, (code, out, err))
            check_refresh(build, ranks, checkpoints, folder, rows, all_logits)
        check_options(build, checkpoint, folder, rows, logits)
        check_levels(build, checkpoint, folder, rows)
        check_end(build, checkpoint, rows, logits)
        check_late(build, checkpoint, rows, logits)
        check_narrow(build, checkpoint, rows, logits)
        check_mapped(build, checkpoints, folder, rows, all_logits)
        check_memory(build, checkpoints, folder, rows)
        check_stall(build, checkpoint, rows)
        check_death(build, checkpoint, rows)
        check_limits(build, checkpoint, rows)
        check_tls(build, checkpoint, folder, rows, logits)
        check_usage(build, folder)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
