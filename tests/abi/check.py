#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Compares device/cuda_abi.h and device/symbols.def with NVIDIA's cuda.h.

Both are compiled as C++ by tests/abi/describe.cpp, which prints every size,
offset, value and mangled signature; the two outputs must be equal. Then it
makes one mistake of each kind in ours and checks that it is noticed.

This is done for each cuda.h that tests/abi/cuda_headers.py finds, CUDA 12's
and CUDA 13's. A function that no older toolkit had may be absent from one,
never from all.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cuda_headers

# The header has it as an inline function only; drivers export it.
UNDECLARED = {"cuGetProcAddress_v2_ptsz"}
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


def listed_functions(root):
    """Of symbols.def, by name: whether it is required, and its declaration."""
    text = (root / "device/symbols.def").read_text()
    rows = re.findall(r"^SYMBOL\((\w+), (\w+), (\w+), (\(.*\))\)$", text, flags=re.M)
    return {
        name: (need == "REQUIRED", f"{result} {name}{parameters}")
        for need, result, name, parameters in rows
    }


def absent_functions(compiler, functions, header):
    """The listed ones that this header does not declare."""
    command = [compiler, "-x", "c++", "-E", "-P", "-D__CUDA_API_VERSION_INTERNAL"]
    command += [f"-I{header}", "-include", "cuda.h", "/dev/null"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    declared = set(re.findall(r"\bcu\w+(?=\()", done.stdout.decode()))
    return set(functions) - declared


def check(compiler, root, header, folder):
    """Complaints, and the functions that could not be compared."""
    functions = listed_functions(root)
    absent = absent_functions(compiler, functions, header)
    lines = [f'extern "C" {functions[name][1]};' for name in sorted(absent)]
    (folder / "absent.h").write_text("\n".join(lines) + "\n")
    theirs = describe(
        compiler, root, ["WITH_CUDA_H"], [header, folder], folder / "theirs"
    )
    ours = describe(compiler, root, [], [], folder / "ours")
    complaints = differences(ours, theirs)
    complaints += [
        f"  {header}/cuda.h lacks {name}, which is required"
        for name in sorted(absent)
        if functions[name][0]
    ]
    complaints += [
        f"  a wrong {kind} goes unnoticed"
        for kind in unnoticed_mistakes(compiler, root, theirs, folder)
    ]
    print(f"{len(ours) - len(absent)} declarations compared with {header}/cuda.h")
    return complaints, absent


def check_all(compiler, root, headers, build):
    complaints = [f"  declarations.def lacks {name}" for name in unlisted(root)]
    nowhere = set(listed_functions(root)) - UNDECLARED
    for header in headers:
        with tempfile.TemporaryDirectory(dir=build) as folder:
            found, absent = check(compiler, root, header, Path(folder))
        complaints += found
        nowhere &= absent
    complaints += [f"  no header declares {name}" for name in sorted(nowhere)]
    return complaints


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--build", type=Path, required=True)
    arguments.add_argument("--compiler", default="c++")
    arguments.add_argument("--header", type=Path, help="the folder of cuda.h")
    given = arguments.parse_args()
    wheels = cuda_headers.wheels_folder(given.root, given.build)
    try:
        if not shutil.which(given.compiler):
            raise cuda_headers.CannotCheck(f"no C++ compiler {given.compiler}")
        headers = [given.header] if given.header else []
        headers = headers or cuda_headers.find_all(wheels)
    except cuda_headers.CannotCheck as reason:
        return cuda_headers.missing(reason)
    complaints = check_all(given.compiler, given.root, headers, given.build)
    print("\n".join(complaints) or "no difference")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
