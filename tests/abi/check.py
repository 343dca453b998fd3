#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Compares device/cuda_abi.h and device/symbols.def with NVIDIA's cuda.h.

Both are compiled as C++ by tests/abi/describe.cpp, which prints every size,
offset, value and mangled signature; the two outputs must be equal. Then it
makes one mistake of each kind in ours and checks that it is noticed.

cuda.h is that of an installed toolkit, or of the CUDA runtime's wheel on
PyPI. Without either the check is skipped (77); in CI, where CI is set, that
is a failure.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SKIPPED = 77
# Each carries cuda.h; the first that can be had is used.
WHEELS = ["nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime"]
# kind of mistake: file, text, replacement
MISTAKES = {
    "value": ("cuda_abi.h", "CU_STREAM_NON_BLOCKING = 1", "CU_STREAM_NON_BLOCKING = 2"),
    "size": ("cuda_abi.h", "char bytes[16];", "char bytes[20];"),
    "offset": (
        "cuda_abi.h",
        "CUmemLocationType type;\n\tint id;",
        "int id;\n\tCUmemLocationType type;",
    ),
    "signature": (
        "symbols.def",
        "(CUdeviceptr *address, size_t bytes))",
        "(CUdeviceptr *address, unsigned int bytes))",
    ),
    "result": ("results.def", "CUDA_ERROR_NOT_READY, 600", "CUDA_ERROR_NOT_READY, 601"),
}


class CannotCheck(Exception):
    """cuda.h, or a C++ compiler, cannot be had here."""


def installed_headers():
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            yield Path(os.environ[variable]) / "include"
    yield Path("/usr/local/cuda/include")
    yield Path("/usr/include")


def download_wheel(name, folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--platform", "manylinux2014_x86_64"]
    command += ["--dest", str(folder), name]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise CannotCheck(f"{name}: {lines[-1] if lines else 'pip failed'}")


def header_of_wheel(name, folder, header="cuda.h"):
    """The folder of the header in the wheel, which is fetched once."""
    place = folder / name
    if not list(place.glob(f"**/{header}")):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        download_wheel(name, place)
        for wheel in place.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(place)
    found = list(place.glob(f"**/{header}"))
    if not found:
        raise CannotCheck(f"{name}: no {header} in it")
    return found[0].parent


def find_header(folder):
    for place in installed_headers():
        if (place / "cuda.h").is_file():
            return place
    reasons = []
    for name in WHEELS:
        try:
            return header_of_wheel(name, folder)
        except CannotCheck as reason:
            reasons.append(str(reason))
    raise CannotCheck("; ".join(reasons))


def describe(compiler, root, defines, includes, program):
    """The lines that describe.cpp prints, compiled this way."""
    command = [compiler, "-std=c++17", "-w", "-o", str(program)]
    command += [f"-D{name}" for name in defines]
    command += [f"-I{place}" for place in includes]
    command += [f"-I{root}", str(root / "tests/abi/describe.cpp")]
    subprocess.run(command, check=True)
    printed = subprocess.run([str(program)], check=True, stdout=subprocess.PIPE)
    return printed.stdout.decode().splitlines()


def differences(ours, theirs):
    return [
        f"  ours   {one}\n  cuda.h {other}"
        for one, other in zip(ours, theirs)
        if one != other
    ]


def unlisted(root):
    """Names that the header declares and declarations.def leaves out."""
    header = (root / "device/cuda_abi.h").read_text()
    listed = (root / "tests/abi/declarations.def").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    names = set(re.findall(r"\b(C[Uu]\w+|cuuint\w+)(?:\s*=[^=]|;)", header))
    names |= set(re.findall(r"#define (CU_\w+)", header))
    return sorted(n for n in names if not re.search(rf"\b{n}\b", listed))


def mistaken(root, folder, kind):
    """A copy of device/ with one mistake."""
    name, text, replacement = MISTAKES[kind]
    copy = folder / kind / "device"
    copy.mkdir(parents=True)
    for each in ("cuda_abi.h", "symbols.def", "results.def"):
        shutil.copy(root / "device" / each, copy / each)
    content = (copy / name).read_text()
    if content.count(text) < 1:
        raise SystemExit(f"{name} holds no {text!r} to get wrong")
    (copy / name).write_text(content.replace(text, replacement))
    return folder / kind


def unnoticed_mistakes(compiler, root, theirs, folder):
    for kind in MISTAKES:
        place = mistaken(root, folder, kind)
        ours = describe(compiler, root, [], [place], place / "describe")
        if ours == theirs:
            yield kind


def check(compiler, root, header, folder):
    theirs = describe(compiler, root, ["WITH_CUDA_H"], [header], folder / "theirs")
    ours = describe(compiler, root, [], [], folder / "ours")
    complaints = differences(ours, theirs)
    complaints += [f"  declarations.def lacks {name}" for name in unlisted(root)]
    complaints += [
        f"  a wrong {kind} goes unnoticed"
        for kind in unnoticed_mistakes(compiler, root, theirs, folder)
    ]
    print(f"{len(ours)} declarations compared with {header}/cuda.h")
    return complaints


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--build", type=Path, required=True)
    arguments.add_argument("--compiler", default="c++")
    arguments.add_argument("--header", type=Path, help="the folder of cuda.h")
    given = arguments.parse_args()
    try:
        if not shutil.which(given.compiler):
            raise CannotCheck(f"no C++ compiler {given.compiler}")
        header = given.header or find_header(given.build / "cuda-wheels")
    except CannotCheck as reason:
        print(f"not checked: {reason}")
        return 1 if os.environ.get("CI") else SKIPPED
    with tempfile.TemporaryDirectory(dir=given.build) as folder:
        complaints = check(given.compiler, given.root, header, Path(folder))
    print("\n".join(complaints) or "no difference")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
