#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Compares preload/hooks.def with what NVIDIA's runtime library asks for.

The runtime asks the driver for functions by name and version, older ones too.
Where one form of a function is replaced, each form that a runtime asks for has
to be. This is done for the libcudart of each toolkit that
tests/abi/cuda_headers.py finds, on a driver that only prints what it is asked
for (tests/abi/asked.c). Then a hook is taken away, which has to be missed.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import cuda_headers

PER_THREAD = 2
START = """
import ctypes, sys
ctypes.CDLL(sys.argv[1]).cudaGetDeviceCount(ctypes.byref(ctypes.c_int()))
"""


def runtimes_of(places):
    """The shared runtime libraries beside the headers, each once."""
    found = {}
    for place in places:
        for folder in (place.parent / "lib", place.parent / "lib64"):
            for path in sorted(folder.glob("libcudart.so.[0-9]*")):
                found.setdefault(path.resolve(), path)
    return list(found.values())


def asked_by(runtime, driver):
    environment = dict(os.environ, LD_LIBRARY_PATH=str(driver.parent))
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        [sys.executable, "-c", START, str(runtime)],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    lines = re.findall(r"^(cu\w+) (\d+) (\d+)$", done.stdout.decode(), flags=re.M)
    return {(name, int(version), int(flags)) for name, version, flags in lines}


def hooks_of(root):
    """The versions that are replaced, by plain name and whether per thread."""
    text = (root / "preload/hooks.def").read_text()
    hooks = {}
    for name, version in re.findall(r"^HOOK\((\w+), (\d+)\)", text, flags=re.M):
        plain = name.removesuffix("_ptsz")
        key = (re.sub(r"_v\d$", "", plain), plain != name)
        hooks.setdefault(key, set()).add(int(version))
    return hooks


def check(hooks, asked):
    complaints = []
    for name, version, flags in sorted(asked):
        key = (name, flags == PER_THREAD and (name, True) in hooks)
        if key in hooks and version not in hooks[key]:
            complaints.append(f"{name} of {version}, flags {flags}, is not replaced")
    return complaints


def check_all(root, folder, driver):
    runtimes = runtimes_of(cuda_headers.find_all(folder))
    if not runtimes:
        raise cuda_headers.CannotCheck("no libcudart beside a cuda.h")
    hooks = hooks_of(root)
    complaints = []
    for runtime in runtimes:
        asked = asked_by(runtime, driver)
        print(f"{len(asked)} functions are asked for by {runtime}")
        if ("cuMemAlloc", 3020, 0) not in asked:
            complaints.append(f"{runtime}: was not heard asking for memory")
        complaints += [f"{runtime}: {each}" for each in check(hooks, asked)]
        without = dict(hooks)
        without[("cuMemAlloc", False)] = {0}
        if not check(without, asked):
            complaints.append(f"{runtime}: a hook less goes unnoticed")
    return complaints


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--build", type=Path, required=True)
    arguments.add_argument("--driver", type=Path, required=True)
    given = arguments.parse_args()
    wheels = cuda_headers.wheels_folder(given.root, given.build)
    try:
        complaints = check_all(given.root, wheels, given.driver)
    except cuda_headers.CannotCheck as reason:
        return cuda_headers.missing(reason)
    print("\n".join(complaints) or "all replaced")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
