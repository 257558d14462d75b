#!/usr/bin/python3
"""Holds a checkpoint with tables in f16 and bf16 against what `shardbag ckpt export` wrote of it, by h5py.

check_storage.py CHECKPOINT FOLDER: FOLDER/f16.npy is tables/feature_0/weight, FOLDER/bf16.npy tables/feature_1/weight,
FOLDER/all.safetensors every array. Leaves FOLDER/given.npy, float16, and FOLDER/given.safetensors, bf16, and
FOLDER/foreign.h5 with a big-endian float16 to be imported. Exits 77 with a message where h5py is not installed.
"""

import json
import struct
import sys

try:
    import h5py
    import numpy
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    for name, about in json.loads(data[8 : 8 + length]).items():
        begin, end = about["data_offsets"]
        yield name, about["dtype"], about["shape"], data[8 + length + begin : 8 + length + end]


def main(path, folder):
    with h5py.File(path) as file:
        half, brain = file["tables/feature_0/weight"], file["tables/feature_1/weight"]
        assert half.dtype == numpy.dtype("<f2") and half.id.get_storage_size() == 2 * half.size
        assert brain.dtype == numpy.dtype("<f4") and brain.id.get_storage_size() == 2 * brain.size, brain.dtype
        assert file["tables/feature_0/state/momentum1"].dtype == numpy.dtype("<f4")
        half, brain = half[()], brain[()]
    bits = brain.view("<u4")
    assert numpy.any(brain) and not numpy.any(bits & 0xFFFF)
    assert numpy.load(f"{folder}/f16.npy").dtype == numpy.dtype("<f2")
    assert numpy.array_equal(numpy.load(f"{folder}/f16.npy"), half)
    assert numpy.load(f"{folder}/bf16.npy").dtype == numpy.dtype("<f4")
    assert numpy.array_equal(numpy.load(f"{folder}/bf16.npy"), brain)
    found = {name: (dtype, shape, data) for name, dtype, shape, data in read_safetensors(f"{folder}/all.safetensors")}
    assert found["tables/feature_0/weight"] == ("F16", list(half.shape), half.tobytes())
    assert found["tables/feature_1/weight"] == ("BF16", list(brain.shape), (bits >> 16).astype("<u2").tobytes())
    given = numpy.arange(12, dtype="f2").reshape(4, 3) / 3
    numpy.save(f"{folder}/given.npy", given)
    data = (given.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    header = json.dumps({"t": {"dtype": "BF16", "shape": [4, 3], "data_offsets": [0, len(data)]}}).encode()
    with open(f"{folder}/given.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)
    with h5py.File(f"{folder}/foreign.h5", "w") as file:
        file.create_dataset("tables/t/weight", data=given.astype(">f2"), compression="gzip")


main(*sys.argv[1:])
