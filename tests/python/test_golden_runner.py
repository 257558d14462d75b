#!/usr/bin/python3
"""The golden runner judges the values of whatever file it is given: test_golden_runner.py BUILD_FOLDER.

Copies of the golden files in which the cases have other names and k of them one expected value changed must fail
exactly those k cases. Ends with `N passed, N failed`.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

import h5py
import numpy

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
RANKS = 3


def expected_arrays(case):
    """Names of the arrays that a case expects and whose every value counts, by the format's README."""
    if "weight0" in case:
        last = max(name for name in case if name.startswith("step_"))
        return [f"{last}/weight"]
    names = ["output", "grad_weight", "grad_per_sample_weights", "weight_after", "max_indices"]
    return [name for name in names if name in case and case[name].size > 0]


def change(case, random):
    """Changes one value of one expected array in both precisions, by far more than any tolerance."""
    names = expected_arrays(case)
    name = names[random.integers(len(names))]
    values = case[name][()]
    place = int(random.integers(values.size))
    for stored in (name, name + "_f64"):
        if stored in case:
            changed = case[stored][()]
            old = changed.flat[place]
            changed.flat[place] = old + 1 if not numpy.isfinite(old) or abs(old) < 1 else 2 * old + 1
            if not numpy.isfinite(old):
                changed.flat[place] = 1
            case[stored][...] = changed
    return name


def copy_with_changes(source, target, changes, random):
    """Writes `target` with renamed cases; returns the new names of the changed ones."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        names = list(old)
        renamed = [f"renamed {i:04d}" for i in random.permutation(len(names))]
        for name, other in zip(names, renamed):
            old.copy(old[name], new, name=other)
        able = [name for name in renamed if expected_arrays(new[name])]
        chosen = random.choice(able, size=changes, replace=False)
        for name in chosen:
            change(new[name], random)
        return set(chosen), len(names)


def run(program, path, layout):
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(RANKS), program, str(path),
               "--layout", layout]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)
    lines = re.findall(r"^(\d+) passed, (\d+) failed\s*$", done.stdout, re.MULTILINE)
    return (tuple(map(int, lines[-1])) if lines else None), done


def main():
    program = os.path.join(sys.argv[1], "tests", "golden")
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed, (name, changes, layout) in enumerate(
                [("bag.h5", 0, "block"), ("bag.h5", 7, "cyclic"), ("optim.h5", 5, "subset")]):
            path = os.path.join(folder, f"copy{seed}.h5")
            chosen, cases = copy_with_changes(GOLDEN / name, path, changes, numpy.random.default_rng(seed))
            counts, done = run(program, path, layout)
            output = done.stdout + done.stderr
            good = counts == (cases - changes, changes) and (done.returncode != 0) == (changes > 0)
            good = good and all(case in output for case in chosen)
            print("ok  " if good else "FAIL", name, f"{changes} changed:", counts, "exit", done.returncode)
            if not good:
                print("changed:", sorted(chosen))
                print(output[-3000:])
            passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
