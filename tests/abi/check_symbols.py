#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Compares preload/driver_symbols.txt with NVIDIA's cuda.h.

Every function of a toolkit's header has to be in the list, with a decision;
those with "hook" are the ones in preload/hooks.def, and docs/compatibility.md
names those with "gap". The versions in the
tables of cuGetProcAddress()'s names, ours and the simulated driver's, are
those of cudaTypedefs.h.

This is done for each toolkit that tests/abi/cuda_headers.py finds. Then the
check is made on a header with one function more, which it has to miss.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cuda_headers

DECISIONS = {"hook", "native", "passed", "gap", "old", "none"}
# The headers have it as an inline function only.
UNDECLARED = {"cuGetProcAddress_v2_ptsz"}
ADDED = "CUresult CUDAAPI cuMemAllocSideways(CUdeviceptr *dptr, size_t bytesize);\n"


def read_list(text):
    """By name, its decision; and what is wrong with the list itself."""
    decisions, complaints = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        decision, *names = line.split("#")[0].split() or [None]
        if decision and decision not in DECISIONS:
            complaints.append(f"line {number}: no decision is called {decision!r}")
        for name in names:
            if name in decisions:
                complaints.append(f"line {number}: {name} is listed twice")
            decisions[name] = decision
    return decisions, complaints


def check_hooks(decisions, hooks):
    listed = {name for name, decision in decisions.items() if decision == "hook"}
    return [f"{name} is listed as a hook and is none" for name in listed - hooks] + [
        f"{name} is a hook and not listed as one" for name in hooks - listed
    ]


def check_gaps(decisions, text):
    """A function's per-thread form needs no name of its own."""
    return [
        f"docs/compatibility.md does not name {name}, which is a gap"
        for name, decision in decisions.items()
        if decision == "gap" and f"`{name.removesuffix('_ptsz')}`" not in text
    ]


def declared_in(compiler, header):
    """Every function of the header, in each of its variants."""
    command = [compiler, "-x", "c++", "-E", "-P", "-D__CUDA_API_VERSION_INTERNAL"]
    command += ["-include", str(header), f"-I{header.parent}", "/dev/null"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return set(re.findall(r"\bCUresult\s+(cu\w+)\s*\(", done.stdout.decode()))


def check_header(decisions, declared):
    return [
        f"{name} is not in preload/driver_symbols.txt: read what it does with"
        " device memory and decide"
        for name in declared - set(decisions)
    ]


def versions_in(places):
    """The pairs of name and version that the headers know."""
    pairs = set()
    for place in places:
        text = (place / "cudaTypedefs.h").read_text()
        found = re.findall(r"\*PFN_(cu\w+?)_v(\d+)(?:_pts[zd]|_ptds)?\)", text)
        pairs |= {(name, int(version)) for name, version in found}
    return pairs


def check_versions(known, asked, table):
    return [
        f"{table}: no toolkit knows {name} of version {version}"
        for name, version in asked
        if (name, version) not in known
    ]


def hooks_of(root):
    """Each hook's name, plain name and version."""
    text = (root / "preload/hooks.def").read_text()
    rows = re.findall(r"^HOOK\((\w+), (\d+)\)", text, flags=re.M)
    return [
        (name, re.sub(r"(_v\d)?(_ptsz|_ptds)?$", "", name), int(version))
        for name, version in rows
    ]


def simulated_of(root):
    text = (root / "device/sim/versions.def").read_text()
    rows = re.findall(r"^VERSION\((\w+), (\d+), ", text, flags=re.M)
    return [(name, int(version)) for name, version in rows]


def is_addition_missed(compiler, decisions, header, folder):
    """Whether one function more in the header is seen."""
    changed = folder / "cuda.h"
    text = header.read_text(errors="replace")
    declaration = "CUresult CUDAAPI cuInit("
    changed.write_text(text.replace(declaration, ADDED + declaration, 1))
    found = check_header(decisions, declared_in(compiler, changed))
    return len(found) == 1 and "cuMemAllocSideways" in found[0]


def check(compiler, root, places, folder):
    decisions, complaints = read_list((root / "preload/driver_symbols.txt").read_text())
    hooks = hooks_of(root)
    complaints += check_hooks(decisions, {name for name, _, _ in hooks})
    complaints += check_gaps(decisions, (root / "docs/compatibility.md").read_text())
    everywhere = set(UNDECLARED)
    for place in places:
        declared = declared_in(compiler, place / "cuda.h")
        everywhere |= declared
        complaints += check_header(decisions, declared)
        print(f"{len(declared)} functions of {place}/cuda.h")
    known = versions_in(places)
    asked = [(name, version) for _, name, version in hooks]
    complaints += check_versions(known, asked, "preload/hooks.def")
    complaints += check_versions(known, simulated_of(root), "device/sim/versions.def")
    if len(places) >= len(cuda_headers.WHEELS):
        complaints += [f"no header has {name}" for name in set(decisions) - everywhere]
    if not is_addition_missed(compiler, decisions, places[0] / "cuda.h", folder):
        complaints.append("a function that the list lacks goes unnoticed")
    return complaints


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--build", type=Path, required=True)
    arguments.add_argument("--compiler", default="c++")
    given = arguments.parse_args()
    wheels = cuda_headers.wheels_folder(given.root, given.build)
    try:
        if not shutil.which(given.compiler):
            raise cuda_headers.CannotCheck(f"no C++ compiler {given.compiler}")
        places = cuda_headers.find_all(wheels)
    except cuda_headers.CannotCheck as reason:
        return cuda_headers.missing(reason)
    with tempfile.TemporaryDirectory(dir=given.build) as folder:
        complaints = check(given.compiler, given.root, places, Path(folder))
    print("\n".join(sorted(set(complaints))) or "all decided")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
