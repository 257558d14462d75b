"""Serving a small DLRM over HTTP: PyTorch behind a thin server of its own process, beside `shardbag serve`.

26 tables, bags of one index, bottom MLP 13-512-256-64-D, the dot interaction, top MLP 512-256-1, trained for one step
and read from shardbag's checkpoint. Both speak KServe v2 with binary tensors, both get the same requests and must give
the same logits; PyTorch computes a request at a time with --threads threads (the cores), in the loop that reads
them (asyncio), so that no thread waits for another. `shardbag bench serve` finds for each in turn, ROUNDS times, the
rate that it keeps up with (p99 within --p99 ms); a client in Python that sends one request after the other checks its
times. All share the machine's cores, the generator too.

Called by serve.sh; started again by itself, as `serve_peers.py worker ...`, for PyTorch's server.
"""

import argparse
import asyncio
import http.client
import json
import os
import pathlib
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy


# ---- PyTorch's server, in a process of its own --------------------------------------------------------------------------


def read_tensors(path):
    """A .safetensors file's arrays, in place."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        head = json.loads(file.read(size))
    return {
        name: numpy.memmap(path, numpy.float32, "c", 8 + size + told["data_offsets"][0], tuple(told["shape"]))
        for name, told in head.items() if name != "__metadata__" and told["dtype"] == "F32"
    }


def create_model(torch, arrays, features):
    def mlp(name, last):
        layers = []
        for i in range(sum(f"dense/{name}/{k}/weight" in arrays for k in range(16))):
            weight, bias = (torch.from_numpy(numpy.array(arrays[f"dense/{name}/{i}/{part}"])) for part in ("weight", "bias"))
            layers.append(torch.nn.Linear(weight.shape[1], weight.shape[0]))
            layers[-1].weight.data, layers[-1].bias.data = weight, bias
            layers.append(torch.nn.ReLU())
        return torch.nn.Sequential(*layers[: None if last else -1])

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bags = torch.nn.ModuleList(
                torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(numpy.array(arrays[f"tables/{name}/weight"])), mode="sum")
                for name in features
            )
            self.bottom, self.top = mlp("bottom", True), mlp("top", False)
            self.pairs = torch.tril_indices(len(features) + 1, len(features) + 1, -1)

        def forward(self, dense, indices):
            own = self.bottom(dense)
            vectors = torch.stack([own] + [bag(i) for bag, i in zip(self.bags, indices)], 1)
            products = torch.bmm(vectors, vectors.transpose(1, 2))
            return self.top(torch.cat([own, products[:, self.pairs[0], self.pairs[1]]], 1)).squeeze(1)

    return Model().eval()


class Torch:
    def __init__(self, args):
        import torch

        torch.set_num_threads(args.threads)
        self.torch = torch
        self.metadata = json.loads(pathlib.Path(args.metadata).read_text())
        self.features = [i["name"] for i in self.metadata["model"]["inputs"] if i["name"] != "dense"]
        self.model = create_model(torch, read_tensors(args.arrays), self.features)

    def infer(self, head_bytes, body):
        tensors, at = {}, head_bytes
        for told in json.loads(body[:head_bytes])["inputs"]:
            size = told["parameters"]["binary_data_size"]
            kind = numpy.float32 if told["datatype"] == "FP32" else numpy.int64
            values = numpy.frombuffer(body, kind, size // numpy.dtype(kind).itemsize, at).reshape(told["shape"])
            tensors[told["name"]] = self.torch.from_numpy(values)
            at += size
        with self.torch.inference_mode():
            logits = self.model(tensors["dense"], [tensors[name] for name in self.features])
            outputs = {"probability": logits.sigmoid().numpy(), "logit": logits.numpy()}
        told = [{"name": n, "datatype": "FP32", "shape": list(v.shape), "parameters": {"binary_data_size": v.nbytes}} for n, v in outputs.items()]
        head = json.dumps({"model_name": self.metadata["model"]["name"], "outputs": told}).encode()
        return head + b"".join(v.tobytes() for v in outputs.values()), len(head)

    def answer(self, path, headers, body):
        name = "/v2/models/" + self.metadata["model"]["name"]
        if path == name + "/infer":
            said, head_bytes = self.infer(int(headers[b"inference-header-content-length"]), body)
            return b"Inference-Header-Content-Length: %d\r\n" % head_bytes, said
        known = {name: "model", name + "/config": "config"}
        return b"", json.dumps(self.metadata[known[path]]).encode()

    async def connection(self, reader, writer):
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(b":") for line in lines)}
                body = bytearray(await reader.readexactly(int(headers.get(b"content-length", 0))))  # torch wants what can be written to
                more, said = self.answer(first.split()[1].decode(), headers, body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(said), more) + said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def worker(args):
    async def serve():
        server = await asyncio.start_server(Torch(args).connection, "127.0.0.1", 0, limit=1 << 26, backlog=512)
        print("at http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())


# ---- both sides ---------------------------------------------------------------------------------------------------------


def start(words):
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
    if not found:
        process.kill()
        raise SystemExit(f"serve_peers.py: {words[:3]} did not start")
    return process, int(found.group(1))


def prepare(args, folder):
    rows = "[" + ",".join([str(args.rows)] * 26) + "]"
    sets = {"data.synthetic.rows": rows, "data.synthetic.samples": "[4096,1024,1024]", "train.max_steps": 1, "run.dir": folder / "run"}
    words = [args.program, "train", args.config] + [w for k, v in sets.items() for w in ("--set", f"{k}={v}")]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=args.limit)
    checkpoint = next((folder / "run").glob("ckpt-*.h5"))
    subprocess.run([args.program, "ckpt", "export", str(checkpoint), str(folder / "all.safetensors")], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=args.limit)
    return checkpoint


def ask(port, path, body=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET" if body is None else "POST", path, body, dict(headers))
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"serve_peers.py: {path}: {answer.status} {said[:200]}")
    return said, answer.headers


def make_request(metadata, batch, rows):
    draw = numpy.random.default_rng(1)
    inputs, blobs = [], []
    for told in metadata["inputs"]:
        dense = told["datatype"] == "FP32"
        shape = [batch, told["shape"][1]]
        blobs.append((draw.random(shape, numpy.float32) if dense else draw.integers(0, rows, shape)).tobytes())
        inputs.append({"name": told["name"], "datatype": told["datatype"], "shape": shape, "parameters": {"binary_data_size": len(blobs[-1])}})
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return head + b"".join(blobs), {"Inference-Header-Content-Length": str(len(head))}


def logits(said, headers):
    length = int(headers["Inference-Header-Content-Length"])
    at = length
    for told in json.loads(said[:length])["outputs"]:
        size = told["parameters"]["binary_data_size"]
        if told["name"] == "logit":
            return numpy.frombuffer(said, numpy.float32, size // 4, at)
        at += size
    raise SystemExit("serve_peers.py: there is no output 'logit'")


def one_by_one(port, path, body, headers, count):
    """The median time of a request, in ms, of a client that knows nothing of the generator."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        connection.request("POST", path, body, headers)
        connection.getresponse().read()
        times.append(1e3 * (time.perf_counter() - begin))
    connection.close()
    return statistics.median(times[count // 10 :])


def sustained(args, port, name, batch, first):
    with tempfile.NamedTemporaryFile("r") as lines:
        sets = {"url": f"http://127.0.0.1:{port}", "model": name, "batch": batch, "seconds": args.seconds, "from": first, "p99": args.p99,
                "bodies": 1024}
        words = [args.program, "bench", "serve", "--json", lines.name] + [w for k, v in sets.items() for w in ("--set", f"{k}={v}")]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=args.limit)
        told = [json.loads(line) for line in lines.read().splitlines()]
        return told[-1]["sustained_per_s"]


def compare(args, sides, metadata, batch):
    path = f"/v2/models/{metadata['name']}/infer"
    body, headers = make_request(metadata, batch, args.rows)
    found = [logits(*ask(port, path, body, headers)) for _, port in sides]
    off = float(numpy.abs(found[0] - found[1]).max())
    if off > 1e-4:
        raise SystemExit(f"serve_peers.py: the logits differ by {off}")
    single = [one_by_one(port, path, body, headers, args.count) for _, port in sides]
    rounds = [[sustained(args, port, metadata["name"], batch, args.first if batch == 1 else 4) for _, port in sides] for _ in range(args.rounds)]
    peer, ours = (statistics.median(side) for side in zip(*rounds))
    ratios = [own / theirs if theirs > 0 else float("inf") for theirs, own in rounds]
    print(f"{batch:6d} {peer:9.1f} {ours:9.1f} {statistics.median(ratios):8.2f} {min(ratios):6.2f} {max(ratios):6.2f} "
          f"{single[0]:9.3f} {single[1]:9.3f} {off:9.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="the shardbag to measure")
    parser.add_argument("--config", required=True, help="configs/dlrm_small.yaml")
    for name, default in (("rows", 100000), ("rounds", 2), ("seconds", 3), ("p99", 100), ("first", 100), ("count", 300), ("threads", os.cpu_count()), ("limit", 900)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--batches", default="1,512", help="(%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        checkpoint = prepare(args, folder)
        sides = [None, start([args.program, "serve", str(checkpoint), "--port", "0"])]
        try:
            index = json.loads(ask(sides[1][1], "/v2/repository/index", b"{}")[0])
            path = "/v2/models/" + index[0]["name"]
            told = {"model": json.loads(ask(sides[1][1], path)[0]), "config": json.loads(ask(sides[1][1], path + "/config")[0])}
            (folder / "metadata.json").write_text(json.dumps(told))
            sides[0] = start([sys.executable, __file__, "worker", "--arrays", str(folder / "all.safetensors"), "--metadata", str(folder / "metadata.json"), "--threads", str(args.threads)])
            print(f"# 26 tables of {args.rows} rows, {os.cpu_count()} cores, PyTorch with {args.threads} threads, p99 within {args.p99} ms; {args.rounds} rounds of {args.seconds} s a rate\n"
                  "#       |- requests/s -----| |- shardbag / PyTorch -| |- one by one, ms ---| largest\n"
                  "# batch   PyTorch  shardbag   median    min    max   PyTorch  shardbag difference", flush=True)
            for batch in map(int, args.batches.split(",")):
                compare(args, sides, told["model"], batch)
        finally:
            for side in sides:
                if side is not None:
                    side[0].terminate()
                    side[0].wait(timeout=30)


def main_worker():
    parser = argparse.ArgumentParser()
    parser.add_argument("worker")
    parser.add_argument("--arrays", required=True)
    parser.add_argument("--metadata", required=True)
    parser.add_argument("--threads", type=int, required=True)
    worker(parser.parse_args())


if __name__ == "__main__":
    main_worker() if sys.argv[1:2] == ["worker"] else main()
