#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Compiles include/poolswitch_cuda_replace.h against NVIDIA's runtime headers.

In C and in C++, and with a default stream for each thread. The headers are
found as tests/abi/cuda_headers.py finds cuda.h.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import cuda_headers

# what the compiler is told, and how the program's language is called
LANGUAGES = {
    "C": ["cc", "-std=c11", "-x", "c"],
    "C++": ["c++", "-std=c++17", "-x", "c++"],
}
STREAMS = {"legacy": [], "per-thread": ["-DCUDA_API_PER_THREAD_DEFAULT_STREAM"]}


# The runtime's headers include two that come with the compiler.
COMPILER_WHEEL = "nvidia-cuda-nvcc-cu12"
COMPILER_HEADER = "crt/host_defines.h"


def find_headers(folder):
    """The include folders that cuda_runtime_api.h needs."""
    place = cuda_headers.find_one(folder)
    if not (place / "cuda_runtime_api.h").is_file():
        raise cuda_headers.CannotCheck(f"no cuda_runtime_api.h in {place}")
    if (place / COMPILER_HEADER).is_file():
        return [place]
    if not os.environ.get("CI"):
        raise cuda_headers.CannotCheck(
            f"no {COMPILER_HEADER} beside it; its wheel of 40 MB is fetched in CI only"
        )
    crt = cuda_headers.of_wheel(COMPILER_WHEEL, folder, COMPILER_HEADER)
    return [place, crt.parent]


def compile_program(root, headers, language, defines):
    command = LANGUAGES[language] + ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command += defines + [f"-I{root / 'include'}"]
    for header in headers:
        command += ["-idirafter", str(header)]
    done = subprocess.run(
        command + [str(root / "tests/abi/replaced.c")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.decode() if done.returncode != 0 else ""


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--build", type=Path, required=True)
    given = arguments.parse_args()
    wheels = cuda_headers.wheels_folder(given.root, given.build)
    try:
        headers = find_headers(wheels)
    except cuda_headers.CannotCheck as reason:
        return cuda_headers.missing(reason)
    failed = 0
    for language in LANGUAGES:
        for stream, defines in STREAMS.items():
            complaint = compile_program(given.root, headers, language, defines)
            failed += bool(complaint)
            print(f"{language}, {stream} default stream: {complaint or 'compiles'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
