#!/usr/bin/python3
"""`shardbag bench serve`, the load generator: test_bench_serve.py BUILD_FOLDER.

Against a server of this file's own, which answers, refuses, stalls and dies as it is told: what is sent must be what
was asked for, what is counted what came back, and times must begin when requests were due. Then against
`shardbag serve`, which has to take all requests that are made for its model. Nothing here depends on speed. Ends with
`N passed, N failed`.
"""

import json
import os
import pathlib
import shutil
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time

import test_serve
from test_serve import check

INPUTS = [
    {"name": "dense", "datatype": "FP32", "shape": [-1, 2]},
    {"name": "user", "datatype": "INT64", "shape": [-1, 1]},
    {"name": "tags.values", "datatype": "INT64", "shape": [-1]},
    {"name": "tags.offsets", "datatype": "INT64", "shape": [-1]},
]
ROWS = {"user": 50, "tags": 9}


def tensors_of(body, header):
    """A request's tensors by name, as lists; None where it is not what its header says."""
    head = json.loads(body[:header] if header else body)
    found, at = {}, header
    for one in head["inputs"]:
        count = 1
        for size in one["shape"]:
            count *= size
        if header:
            form, size = ("f", 4) if one["datatype"] == "FP32" else ("q", 8)
            if one["parameters"]["binary_data_size"] != count * size:
                return None
            values = struct.unpack_from(f"<{count}{form}", body, at)
            at += count * size
        else:
            values = one["data"]
        if len(values) != count:
            return None
        found[one["name"]] = list(values)
    return found if at == (len(body) if header else 0) else None


def is_right(tensors, batch, length):
    offsets = tensors["tags.offsets"]
    return (
        len(tensors["dense"]) == 2 * batch and len(tensors["user"]) == batch and len(offsets) == batch + 1
        and offsets == [length * i for i in range(batch + 1)] and len(tensors["tags.values"]) == offsets[-1]
        and all(0 <= x < 1 for x in tensors["dense"])
    )


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        try:
            while self.one():
                pass
        except OSError:
            pass

    def one(self):
        first = self.rfile.readline().split()
        if len(first) < 2:
            return False
        headers = {}
        while (line := self.rfile.readline().strip()):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        status, said = self.server.fake.answer(first[1].decode(), headers, body)
        if status is None:
            return False
        told = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.wfile.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(told)) + told)
        return True


class Fake(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


class FakeServer:
    """plan(number, tensors) of the number-th inference says the status, or None to hang up."""

    def __init__(self, plan, rows=True, batch=1, length=3, token=None):
        self.plan, self.rows, self.batch, self.length, self.token = plan, rows, batch, length, token
        self.lock = threading.Lock()
        self.asked, self.malformed, self.different, self.binary = 0, 0, set(), 0
        self.server = Fake(("127.0.0.1", 0), Handler)
        self.server.fake = self
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path, headers, body):
        if self.token and headers.get("authorization") != "Bearer " + self.token:
            return 401, {"error": "no"}
        if path == "/v2/repository/index":
            return 200, [{"name": "a b/c"}]
        if path == "/v2/models/a%20b%2Fc":
            return 200, {"name": "a b/c", "versions": ["12"], "inputs": INPUTS}
        if path == "/v2/models/a%20b%2Fc/config":
            return (200, {"parameters": {f"rows.{k}": {"string_value": str(v)} for k, v in ROWS.items()}}) if self.rows else (404, b"")
        if path != "/v2/models/a%20b%2Fc/infer":
            return 404, {"error": "no"}
        return self.infer(int(headers.get("inference-header-content-length", 0)), body)

    def infer(self, header, body):
        tensors = tensors_of(body, header)
        inside = tensors is not None and all(0 <= i < 50 for i in tensors["user"]) and all(0 <= i < 9 for i in tensors["tags.values"])
        with self.lock:
            number = self.asked
            self.asked += 1
            self.malformed += tensors is None or not is_right(tensors, self.batch, self.length)
            self.binary += header > 0
            self.different.add(body)
        status = self.plan(number) if inside else 400
        return status, (b"" if status is None else {"outputs": []} if status == 200 else {"error": "as told"})

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def run(build, folder, *sets, options=()):
    """The lines of --json, and the process."""
    lines = folder / "bench.json"
    lines.unlink(missing_ok=True)
    words = [os.path.join(build, "shardbag"), "bench", "serve", "--json", str(lines), *options]
    for word in sets:
        words += ["--set", word]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else [], done


def ordered(p):
    return 0 < p["p50"] <= p["p90"] <= p["p99"] <= p["p99.9"] <= p["max"]


def check_counts(build, folder):
    """Binary and JSON: as many requests as were told, all different, each as the metadata say, and the picture."""
    for tensors, batch in (("binary", 1), ("json", 3)):
        fake = FakeServer(lambda number: 200, batch=batch)
        picture = folder / f"{tensors}.svg"
        lines, done = run(
            build, folder, f"url={fake.url}/", "rate=[150,300]", "seconds=0.8", "warmup=0.1", f"tensors={tensors}",
            f"batch={batch}", f"picture={picture}" if shutil.which("gnuplot") else "seed=1",
        )
        check(f"{tensors}: runs", done.returncode == 0 and len(lines) == 2 and not done.stderr, done.stderr)
        if len(lines) != 2:
            continue
        for line, rate in zip(lines, (150, 300)):
            check(f"{tensors}: the rate", line["rate"] == rate and 0.5 * rate < line["requests"] < 1.2 * rate, line)
            check(f"{tensors}: all are answered", line["status"] == {"200": line["requests"]} and line["answered"] == line["requests"])
            check(f"{tensors}: none fails", line["failed"] == line["wrong"] == 0)
            check(f"{tensors}: percentiles", all(ordered(line[p]) for p in ("latency_ms", "service_ms")), line)
            check(f"{tensors}: names", line["model"] == "a b/c" and line["version"] == "12" and line["batch"] == batch)
        sent = sum(line["requests"] for line in lines)
        check(f"{tensors}: those and the warm-up, and one to begin with", sent < fake.asked < 1.5 * sent, (sent, fake.asked))
        check(f"{tensors}: right", fake.malformed == 0 and fake.binary == (fake.asked if tensors == "binary" else 0))
        check(f"{tensors}: different", len(fake.different) > 0.6 * fake.asked, len(fake.different))
        rows = [row for row in done.stdout.splitlines() if not row.startswith("#")]
        check(f"{tensors}: a row each", len(rows) == 2 and [float(row.split()[0]) for row in rows] == [150, 300], done.stdout)
        if shutil.which("gnuplot"):
            check(f"{tensors}: a picture", "</svg>" in picture.read_text() and "p99.9" in pathlib.Path(f"{picture}.gp").read_text())
        else:
            print("skipped: gnuplot is not here")
        fake.close()


def check_stall(build, folder):
    """A server that stands still for 0.5 s of 1.2: with one connection, one request waits for it, but 40 % of all were
    due meanwhile and count. With plenty of connections as many are sent and wait there."""
    for connections in (1, 128):
        begun = []
        gate = threading.Lock()

        def plan(number):
            with gate:
                begun.append(time.monotonic())
                if number == 40:
                    time.sleep(0.5)
            return 200

        fake = FakeServer(plan)
        lines, done = run(build, folder, f"url={fake.url}", "rate=100", "seconds=1.2", "warmup=0", f"connections={connections}")
        check(f"a stall, {connections}: runs", done.returncode == 0 and len(lines) == 1, done.stderr)
        if len(lines) != 1:
            continue
        latency, service = lines[0]["latency_ms"], lines[0]["service_ms"]
        check(f"a stall, {connections}: it shows from when they were due", latency["p90"] > 150 and latency["max"] > 490, latency)
        if connections == 1:
            check("a stall: not from when they were sent", service["p90"] < 0.7 * latency["p90"], (service, latency))
            check("a stall: they were late", lines[0]["late_ms"]["p90"] > 100, lines[0]["late_ms"])
        check(f"a stall, {connections}: all are answered", lines[0]["answered"] == lines[0]["requests"])
        fake.close()


def check_errors(build, folder):
    """Every fourth is refused with 503, every tenth of the rest loses its connection (and is sent once more
    on another, as HTTP clients do with one that was kept); a fifth is wrong on purpose."""
    fake = FakeServer(lambda number: 503 if number % 4 == 3 else None if number % 10 in (5, 6) else 200)
    lines, done = run(build, folder, f"url={fake.url}", "rate=400", "seconds=1", "warmup=0", "invalid=0.2", "connections=8")
    check("errors: runs", done.returncode == 0 and len(lines) == 1, done.stderr)
    if len(lines) == 1:
        line = lines[0]
        status = line["status"]
        check("errors: by status", status.get("503", 0) > 20 and status.get("disconnected", 0) > 0, status)
        check("errors: wrong ones are refused", 30 < line["refused"] < 160 and line["refused"] == status["400"] and line["wrong"] == 0, line)
        check("errors: sum up", sum(status.values()) == line["requests"] == line["answered"] + line["refused"] + line["failed"], line)
        check("errors: are told", "503: " in done.stdout and "first: " in done.stdout, done.stdout)
    fake.close()
    fake = FakeServer(lambda number: time.sleep(1.2) or 200 if number else 200)
    lines, done = run(build, folder, f"url={fake.url}", "rate=40", "seconds=0.5", "warmup=0", "timeout=0.3", "connections=2")
    check("no answer in time", done.returncode == 0 and lines and lines[0]["answered"] == 0 and lines[0]["status"].get("no answer", 0) > 0
          and lines[0]["status"].get("not sent", 0) > 0, lines)
    fake.close()


def check_search(build, folder):
    """The highest rate is looked for; a server that refuses what comes within 2 ms of the one before has one."""
    last = [0.0]

    def plan(_):
        now, before = time.monotonic(), last[0]
        last[0] = now
        return 200 if now - before > 0.002 else 503

    fake = FakeServer(plan)
    lines, done = run(build, folder, f"url={fake.url}", "seconds=0.15", "warmup=0", "from=40", "errors=0.3", "p99=5000")
    check("search: runs", done.returncode == 0 and lines, done.stderr)
    found = lines[-1].get("sustained_per_s", -1) if lines else -1
    tried = [line["rate"] for line in lines[:-1]]
    check("search: finds a rate that it has tried", found == 0 or found in tried, lines)
    check("search: and tells it", f"# sustained: {found:.0f} requests/s" in done.stdout, done.stdout)
    fake.close()


def check_refusals(build, folder):
    fake = FakeServer(lambda number: 500, rows=False, token="secret")
    token = folder / "token"
    token.write_text("secret\n")
    known = [f"url={fake.url}", f"token_file={token}"]
    for sets, code, said in (
        (["url=ftp://x"], 2, "must begin with http"),
        (["rate=fast"], 2, "'rate'"),
        (["rate=[10,-1]"], 2, "'rate.1'"),
        (["rate=[auto,1]"], 2, "auto stands alone"),
        (["rate=[]"], 2, "needs a value"),
        (["rate=1e6", "seconds=3000"], 2, "more than"),
        (["picture=x.pdf"], 2, ".svg or .png"),
        (["url=http://127.0.0.1:1"], 1, "127.0.0.1:1"),
        ([f"url={fake.url}"], 1, "status 401"),
        (known, 1, "rows.user"),
        (known + ["model=none"], 1, "status 404"),
        (known + ["rows=9"], 1, "the first request fails: status 500"),
    ):
        lines, done = run(build, folder, *sets)
        check(f"refuses {sets[-1]}", done.returncode == code and said in done.stderr and done.stderr.count("\n") == 1 and not lines, done.stderr)
    done = subprocess.run(
        ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", os.path.join(build, "shardbag"), "bench", "serve"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )
    check("refuses two ranks", done.returncode == 2 and "one process" in done.stderr, done.stderr)
    fake.close()


def check_overload(build, folder, checkpoint):
    """A server that takes 4 requests each 0.1 s: what is beyond is refused with 503 at once, none is lost, and when the
    load has ended all are answered again."""
    server = test_serve.Server(build, 2, checkpoint, "--batch-window", "100000", "--queue", "4")
    known = (f"url=http://127.0.0.1:{server.port}", "seconds=1", "warmup=0", "connections=64")
    lines, done = run(build, folder, *known, "rate=300")
    status = lines[0]["status"] if lines else {}
    check("overload: some are answered, others refused", status.get("503", 0) > 0 and status.get("200", 0) > 0 and len(status) == 2, (status, done.stderr))
    check("overload: a reason", "too many requests wait" in done.stdout, done.stdout)
    lines, done = run(build, folder, *known, "rate=8")
    check("overload: none is refused after it", lines and lines[0]["answered"] == lines[0]["requests"] > 0, (lines, done.stderr))
    said = server.ask("/metrics")[1].decode()
    counted = [line for line in said.splitlines() if line.startswith('shardbag_errors_total{kind="overload"}')]
    check("overload: is counted", counted == ['shardbag_errors_total{kind="overload"} %d' % status.get("503", 0)], (counted, status))
    check("overload: nothing is left", "\nshardbag_queue_requests 0\n" in said)
    code, out, err = server.end()
    check("overload: the server ends well", code == 0 and "served" in out, (out, err))


def check_server(build, folder, checkpoint):
    """What is made for a model of `shardbag serve` it takes."""
    token = folder / "token"
    server = test_serve.Server(build, 2, checkpoint, "--token-file", str(token))
    for model, tensors, batch in (("shop", "binary", 1), ("shop", "json", 5), ("shop/embeddings", "binary", 64)):
        lines, done = run(
            build, folder, f"url=http://127.0.0.1:{server.port}", f"model={model}", f"tensors={tensors}", f"batch={batch}",
            f"token_file={token}", "rate=60", "seconds=0.7", "warmup=0", "invalid=0.1", "lengths=uniform", "zipf=1.05",
        )
        good = len(lines) == 1 and lines[0]["failed"] == lines[0]["wrong"] == 0 and 0 < lines[0]["refused"] and 20 < lines[0]["answered"]
        check(f"{model}, {tensors}", done.returncode == 0 and good, (done.stderr, done.stdout))
    code, out, err = server.end()
    check("the server ends well", code == 0 and "served" in out, (out, err))


def main():
    build = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        lines, done = run(build, folder, "url=http://127.0.0.1:1", "rate=1")
        if "without libcurl" in done.stderr:
            print("skipped: this build has no libcurl")
            return 0
        check_counts(build, folder)
        check_stall(build, folder)
        check_errors(build, folder)
        check_search(build, folder)
        check_refusals(build, folder)
        probe = subprocess.run([os.path.join(build, "shardbag"), "serve", "/"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        if "without libmicrohttpd" in probe.stderr:
            print("skipped: this build has no libmicrohttpd")
        else:
            checkpoints, _ = test_serve.train(build, folder, test_serve.Rows())
            check_server(build, folder, checkpoints[-1])
            check_overload(build, folder, checkpoints[-1])
    print(f"{test_serve.passed} passed, {test_serve.failed} failed")
    return 1 if test_serve.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        for process in test_serve.started:
            if process.poll() is None:
                process.kill()
