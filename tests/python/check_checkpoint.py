#!/usr/bin/python3
"""Reads the file that tests/mpi/test_checkpoint.c writes, with plain h5py: check_checkpoint.py FILE.

Exits 77 with a message where h5py is not installed (Debian: python3-h5py belongs to /usr/bin/python3).
"""

import sys

try:
    import h5py
    import numpy
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

# name: disk type, shape, value of (row, column)
ARRAYS = {
    "tables/user/weight": ("<f4", (1003, 16), lambda v: v.astype("f4") * numpy.float32(0.25)),
    "tables/user/state/sum": ("<f8", (1003,), lambda v: v / 3.0),
    "tables/wide/weight": ("<f4", (37, 3000), lambda v: v.astype("f4") * numpy.float32(0.25)),
    "counts": ("<i8", (5, 3), lambda v: v << 40),
    "few": ("<i4", (2,), lambda v: v),
    "empty": ("<f4", (0, 8), lambda v: v),
    "bytes": ("|u1", (9, 2), lambda v: v & 255),
}
BLOBS = {"vocabulary/user": b"one\0two\n\xff\0", "vocabulary/none": b""}


def check_array(file, name, dtype, shape, value):
    array = file[name]
    assert array.dtype == numpy.dtype(dtype), (name, array.dtype)
    assert array.shape == shape, (name, array.shape)
    assert array.chunks is None, name  # contiguous
    row = numpy.arange(shape[0], dtype="i8")
    if len(shape) == 2:
        row = row[:, None] * 131 + numpy.arange(shape[1], dtype="i8")[None, :] * 7 - 5
    else:
        row = row * 131 - 5
    assert numpy.array_equal(array[()], value(row).astype(dtype)), name


def main(path):
    with h5py.File(path, "r") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert sorted(names) == sorted([*ARRAYS, *BLOBS]), names
        for name, (dtype, shape, value) in ARRAYS.items():
            check_array(file, name, dtype, shape, value)
        assert file["tables/user/weight"][3].shape == (16,)
        for name, value in BLOBS.items():
            assert file[name][()].tobytes() == value, name
        assert file.attrs["step"] == -(2**63) + 7
        assert file["metrics/test"].attrs["auc"] == 0.1
        assert file["tables/user"].attrs["mode"].decode() == "mean \u00e4"
        assert file["tables/user/weight"].attrs["unit"] == b""
    print(f"{len(ARRAYS)} arrays, {len(BLOBS)} blobs and 4 attributes are right")


main(sys.argv[1])
