#!/usr/bin/python3
"""`shardbag serve` as its clients see it: test_serve.py BUILD_FOLDER.

Trains a small model, serves its checkpoint on 1, 2, 3 and 4 ranks, and compares answers with what `shardbag predict`
says of the same rows and with pools made of the checkpoint's rows by numpy; then wrong requests, many clients at a time,
overload, slow clients, and how a server ends. With tritonclient[http] in some Python (TRITON_PYTHON=PROGRAM, or the
one that runs this) that client asks too. Ends with `N passed, N failed`.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
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
        found = re.search(r"http://127\.0\.0\.1:(\d+)$", self.first.strip())
        self.port = int(found.group(1)) if found else 0

    def environment(self):
        """As a user's: OpenBLAS then has threads, older than main and blocking no signal."""
        ours = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return {name: value for name, value in os.environ.items() if name not in ours}

    def ask(self, path, body=None, headers=(), method=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
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


def train(build, folder, rows):
    rows.write(folder / "data.tsv")
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    program = os.path.join(build, "shardbag")
    launch = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", program]
    words = ["train", str(folder / "config.yaml"), "--set", f"run.dir={folder}/run", "--set", "train.epochs=2"]
    done = subprocess.run(launch + words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    check("training", done.returncode == 0, done.stderr)
    checkpoint = next((folder / "run").glob("ckpt-*.h5"))
    words = ["predict", str(checkpoint), str(folder / "config.yaml"), "--input", str(folder / "data.tsv"), "--format", "json"]
    done = subprocess.run(launch + words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    check("predicting", done.returncode == 0, done.stderr)
    logits = numpy.array([json.loads(line)["logit"] for line in done.stdout.splitlines()])
    (folder / "data.tsv").unlink()  # a server needs no data
    return checkpoint, logits


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


def check_metrics(server, ranks):
    answer, said = server.ask("/metrics")
    text = said.decode()
    check("metrics", answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
    value = lambda name: float(re.search("^" + re.escape(name) + r" (\S+)$", text, re.M).group(1))
    check("requests are counted", value('shardbag_requests_total{model="shop"}') > 100)
    check("errors are counted", value('shardbag_errors_total{kind="bad_request"}') > 10)
    check("batches are counted", 0 < value("shardbag_batch_requests_count") <= value("shardbag_batch_requests_sum"))
    owned = [value(f'shardbag_lookups_total{{table="tags",rank="{r}"}}') for r in range(ranks)]
    check("look-ups by rank", min(owned) > 0, owned)
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
        check("promtool", done.returncode == 0 and not done.stderr, done.stderr)
    else:
        print("skipped: promtool is not here (Debian: prometheus)")


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


def check_triton(server, folder, rows, logits):
    python = os.environ.get("TRITON_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import tritonclient.http"], capture_output=True, timeout=60).returncode != 0:
        print(f"skipped: {python} has no tritonclient[http]; TRITON_PYTHON=PROGRAM names one that has")
        return
    tags = rows.tags[:20]
    numpy.savez(
        folder / "expected.npz", **{"tags.values": numpy.array(sum(tags, []), dtype=numpy.int64),
        "tags.offsets": numpy.cumsum([0] + [len(t) for t in tags]).astype(numpy.int64)},
        dense=numpy.array(rows.dense[:20], dtype=numpy.float32), user=numpy.array(rows.user[:20], dtype=numpy.int64), logit=logits[:20],
    )
    done = subprocess.run([python, "-c", TRITON, str(server.port), str(folder / "expected.npz")], capture_output=True, text=True, timeout=60)
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
    check("the access log", [l["status"] for l in lines] == [401, 401, 200, 200, 413] and lines[3]["samples"] == 2, lines)


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


def check_narrow(build, checkpoint, rows, logits):
    """Tables in int8: near, and not the same."""
    server = Server(build, 2, checkpoint, "--dtype", "int8", "--name", "narrow/shop")
    status, said = server.infer("narrow/shop", rows.inputs(0, 100))
    off = numpy.abs(output(said, "logit") - logits[:100]).max() if status == 200 else said
    check("int8", status == 200 and 0 < off < 0.1, off)
    code, out, err = server.end()
    check("int8 ends", code == 0, (code, out, err))


def check_stall(build, checkpoint, rows):
    """A rank that is stopped: not ready, 503, and soon the job's end with a line that says why."""
    server = Server(build, 2, checkpoint, "--timeout", "4")
    found = []
    for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            words = environ.read_bytes().split(b"\0")
            command = (environ.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if b"OMPI_COMM_WORLD_RANK=1" in words and str(checkpoint).encode() in command:
            found.append(int(environ.parent.name))
    check("the other rank", len(found) == 1, found)
    if len(found) != 1:
        return
    os.kill(found[0], signal.SIGSTOP)
    start = time.time()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(server.infer, "shop", rows.inputs(0, 2))
        time.sleep(2)
        check("not ready", server.ask("/v2/health/ready")[0].status == 503)
        check("alive", server.ask("/v2/health/live")[0].status == 200)
        check("refused", server.infer("shop", rows.inputs(0, 2))[0] == 503)
        try:
            check("the one that waited", stuck.result()[0] == 500)
        except (OSError, http.client.HTTPException):
            check("the one that waited sees the connection close", True)
    out, err = server.process.communicate(timeout=30)
    said = [line for line in err.splitlines() if line.startswith("shardbag serve: ")]
    check("it ends and says why", server.process.returncode != 0 and len(said) == 1 and time.time() - start < 15, (out, err))


def check_usage(build, folder):
    program = os.path.join(build, "shardbag")
    for words, said in (
        ([str(folder / "none.h5")], "cannot open the checkpoint"),
        (["x.h5", "--port", "70000"], "--port"),
        ([], "arguments are missing"),
    ):
        done = subprocess.run([program, "serve", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        check(f"usage: {said}", done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr)


def main():
    build = sys.argv[1]
    program = os.path.join(build, "shardbag")
    probe = subprocess.run([program, "serve", "/"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    if "without libmicrohttpd" in probe.stderr:
        print("skipped: this build has no libmicrohttpd")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows = Rows()
        checkpoint, logits = train(build, folder, rows)
        for ranks in (1, 2, 3, 4):
            server = Server(build, ranks, checkpoint, "--request-time", "1.5")
            server.folder = folder
            check(f"{ranks} ranks serve", server.port > 0, server.first or server.process.stderr.read())
            if server.port == 0:
                continue
            check_answers(f"{ranks} ranks", server, checkpoint, rows, logits)
            if ranks in (1, 3):
                check_protocol(server)
                check_binary(server, rows, logits)
                check_refusals(server, rows)
                check_many(server, rows, logits)
                check_metrics(server, ranks)
            if ranks == 1:
                check_triton(server, folder, rows, logits)
                check_slow(server)
            if ranks == 3:
                time.sleep(1.2)  # until the others sleep longest
                share = idle_share(server)
                print(f"idle on 3 ranks: {share:.3f} of a core")
                check("an idle server does not spin", share < 0.3, share)
            code, out, err = server.end()
            check(f"{ranks} ranks end", code == 0 and "served" in out, (code, out, err))
        check_options(build, checkpoint, folder, rows, logits)
        check_end(build, checkpoint, rows, logits)
        check_narrow(build, checkpoint, rows, logits)
        check_stall(build, checkpoint, rows)
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
