#!/usr/bin/python3
"""Holds what `shardbag ckpt export` wrote against the checkpoint, read by h5py, and makes files to import.

check_export.py CHECKPOINT FOLDER: FOLDER/rows.npy are rows 3 to 8 of tables/feature_0/weight, FOLDER/table.npy all of
them, FOLDER/all.safetensors every array. Exits 77 with a message where h5py is not installed.
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

TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4"}


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    rows = data[8 + length :]
    arrays = {}
    for name, about in json.loads(data[8 : 8 + length]).items():
        begin, end = about["data_offsets"]
        arrays[name] = numpy.frombuffer(rows[begin:end], TYPES[about["dtype"]]).reshape(about["shape"])
    return arrays


def main(path, folder):
    with h5py.File(path) as file:
        weight = file["tables/feature_0/weight"][()]
        assert numpy.array_equal(numpy.load(f"{folder}/rows.npy"), weight[3:9])
        assert numpy.array_equal(numpy.load(f"{folder}/table.npy"), weight)
        arrays = read_safetensors(f"{folder}/all.safetensors")
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert sorted(arrays) == sorted(name for name in names if file[name].dtype != "u1"), arrays.keys()
        for name, values in arrays.items():
            assert numpy.array_equal(values, file[name][()]), name
    numpy.save(f"{folder}/new.npy", numpy.arange(6, dtype="f8").reshape(2, 3))
    numpy.save(f"{folder}/fortran.npy", numpy.asfortranarray(numpy.ones((3, 4))))
    numpy.save(f"{folder}/complex.npy", numpy.ones((3, 4), dtype="c8"))
    with h5py.File(f"{folder}/foreign.h5", "w") as file:
        file.create_dataset("deep/down", data=weight, compression="gzip")
        file.create_dataset("cube", data=numpy.ones((2, 2, 2)))
    header = json.dumps({"user.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 24]}}).encode()
    with open(f"{folder}/lies.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + bytes(24))


main(*sys.argv[1:])
