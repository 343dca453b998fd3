#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The GPU suite and the GPU benchmarks, from a build folder.

gpu.py run FOLDER OUT [ONLY]  runs them; results and logs go to OUT
gpu.py pack FOLDER DIR        copies what "run" needs, to run it elsewhere

Needs nothing but Python: a machine with a GPU often has no compiler. Shared
libraries are looked for in FOLDER and in FOLDER/libs.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What is packed: folders of the build that hold programs to run, helpers of
# theirs, or the library.
PACKED = ["tests", "bench", "demo", "examples", "lib", "device", "cli",
          "poold", "preload", "python_shim"]
# What programs load from beside them.
DATA = (".ptx", ".py", ".safetensors")
CARRIED = ("libcmocka.so", "libjansson.so", "libsodium.so", "libz.so",
           # the HTTP server of poolswitch, and what it is made of
           "libmicrohttpd.so", "libgnutls.so", "libp11-kit.so", "libidn2.so",
           "libunistring.so", "libtasn1.so", "libnettle.so", "libhogweed.so",
           "libgmp.so", "libffi.so")
PACK_LIMIT = 40 << 20
SUITE = "gpu-suite.json"
# The commit that a packed build was made of.
COMMIT = "commit"
TIMEOUT_S = {"test": 300, "demo": 120, "bench": 570, "frameworks": 580}
# They lie in the checkout, not in the build.
FRAMEWORKS = ROOT / "tests/gpu/frameworks/run.py"
FRAMEWORK_COST = ROOT / "bench/frameworks.py"
# Networks whose switch is measured under PyTorch, each by itself.
SWITCHED = ["resnet152", "inception", "bert", "synthetic"]
SKIPPED = 77


def is_program(path):
    """An ELF file that was built to be run or loaded."""
    if path.is_symlink() or not path.is_file() or not os.access(path, os.X_OK):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def suite_of(folder):
    """{test name: its command, paths relative to the folder} of suite gpu."""
    packed = folder / SUITE
    if packed.is_file():
        return json.loads(packed.read_text())
    listed = subprocess.run(
        ["meson", "introspect", "--tests", str(folder)],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    return {
        row["name"]: [os.path.relpath(word, folder) if word.startswith("/")
                      else word for word in row["cmd"]]
        for row in json.loads(listed)
        if any(each.endswith(":gpu") for each in row["suite"])
    }


def frameworks_of(folder):
    """Each case of the frameworks' suite, and what they cost."""
    cases = subprocess.run([sys.executable, str(FRAMEWORKS), "--list"],
                           stdout=subprocess.PIPE, text=True, check=True)
    found = [("frameworks", name,
              [sys.executable, str(FRAMEWORKS), str(folder), name])
             for name in cases.stdout.split()]
    if FRAMEWORK_COST.is_file():
        found.append(("bench", "frameworks_cost",
                      [sys.executable, str(FRAMEWORK_COST), str(folder)]))
    return found


def switches_of(folder):
    """The package lies in the build folder as it is imported."""
    if not (folder / "python_shim/poolswitch/bench").is_dir():
        return []
    return [("bench", f"switch_{name}",
             [sys.executable, "-m", "poolswitch.bench", "switch", "--workload",
              name]) for name in SWITCHED]


def argv_of(folder, command):
    """A test in Python lies in the checkout; the others in the build."""
    if pathlib.Path(command[0]).name.startswith("python"):
        script = ROOT / "tests/python" / pathlib.Path(command[1]).name
        return [sys.executable, str(script), *command[2:]]
    return [str(folder / command[0]), *command[1:]]


def programs_of(folder, only):
    """(kind, name, command) of each program to run."""
    found = [("test", name, argv_of(folder, command))
             for name, command in sorted(suite_of(folder).items())]
    found.append(("demo", "demo", [str(folder / "demo/poolswitch-demo")]))
    found += [("bench", path.name, [str(path)])
              for path in sorted(folder.glob("bench/*"))
              if is_program(path) and path.suffix != ".so"]
    found += frameworks_of(folder) + switches_of(folder)
    return [row for row in found if only in ("", row[0], row[1])]


def environment(folder):
    env = {key: value for key, value in os.environ.items()
           if not key.startswith("POOLSWITCH_SIM")}
    env["POOLSWITCH_DRIVER"] = "real"
    libs = [str(folder / "libs"), str(folder / "lib")]
    env["LD_LIBRARY_PATH"] = ":".join(
        libs + [each for each in [env.get("LD_LIBRARY_PATH")] if each])
    env["PYTHONPATH"] = ":".join(
        [str(folder / "python_shim"),
         *[each for each in [env.get("PYTHONPATH")] if each]])
    return env


def run_one(kind, name, argv, out, env):
    """Runs a program, keeps its output and figures; its exit status."""
    figures = out / (name + ".jsonl")
    figures.unlink(missing_ok=True)
    if kind == "bench":
        argv = [*argv, "--json", str(figures)]
    if kind == "frameworks":
        argv = [*argv, "--json", str(out / (name + ".case.json"))]
    log = out / (name + ".log")
    with log.open("wb") as file:
        try:
            status = subprocess.run(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, timeout=TIMEOUT_S[kind]).returncode
        except subprocess.TimeoutExpired:
            status = 124
        except OSError as error:
            file.write(f"{argv[0]}: {error}\n".encode())
            status = 127
    print(log.read_text(errors="replace"), end="", flush=True)
    return status


def read_figures(out, name):
    path = out / (name + ".jsonl")
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def verdict_of(kind, status, figures):
    if status == SKIPPED:
        return "skipped"
    if status != 0:
        return "FAILED (%d)" % status
    if kind == "bench" and not figures:
        return "FAILED (no figure)"
    if any(row.get("met") is False for row in figures):
        return "MISSED"
    return "passed"


def print_figures(rows):
    print("\n%-16s %-44s %-26s %12s" % ("bench", "case", "metric", "value"))
    for row in rows:
        mark = {True: "met", False: "MISSED"}.get(row.get("met"), "")
        print("%-16s %-44s %-26s %12.6g %s %s" % (
            row["bench"], row["case"], row["metric"], row["value"],
            row["unit"], mark))


def first_line(*command):
    """What the command says first; "unknown" when it cannot be run."""
    try:
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL).stdout
    except OSError:
        said = ""
    return (said.splitlines() or ["unknown"])[0]


def commit_of(folder):
    """That of a packed build; else the checkout's."""
    packed = folder / COMMIT
    if packed.is_file():
        return packed.read_text().strip()
    return first_line("git", "rev-parse", "--short=12", "HEAD")


def write_summary(out, rows, folder):
    """What ran where, and what came of it: OUT/suite.json."""
    gpu = first_line("nvidia-smi", "--query-gpu=name,driver_version",
                     "--format=csv,noheader")
    summary = {
        "gpu": gpu,
        "commit": os.environ.get("POOLSWITCH_COMMIT") or commit_of(folder),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "results": [{"kind": kind, "name": name, "result": result}
                    for kind, name, result in rows],
    }
    (out / "suite.json").write_text(json.dumps(summary, indent=1) + "\n")


def gather_cases(out, rows):
    """What became of the frameworks, in one file: OUT/frameworks.json, for
    bench/report.py --add."""
    cases = []
    for kind, name, _ in rows:
        path = out / (name + ".case.json")
        if kind == "frameworks" and path.is_file():
            cases.append(json.loads(path.read_text()))
    if cases:
        suite = json.loads((out / "suite.json").read_text())
        where = {name: suite[name] for name in ("gpu", "commit", "date")}
        (out / "frameworks.json").write_text(
            json.dumps({**where, "cases": cases}, indent=1) + "\n")


def run(folder, out, only):
    programs = programs_of(folder, only)
    if not programs:
        sys.exit(f"gpu: {folder} holds no program of that name")
    out.mkdir(parents=True, exist_ok=True)
    rows, figures = [], []
    for kind, name, argv in programs:
        print(f"== {kind} {name}", flush=True)
        status = run_one(kind, name, argv, out, environment(folder))
        new = read_figures(out, name)
        figures += new
        rows.append((kind, name, verdict_of(kind, status, new)))
    write_summary(out, rows, folder)
    gather_cases(out, rows)
    if figures:
        print_figures(figures)
    print("\n%-6s %-32s %s" % ("kind", "program", "result"))
    for row in rows:
        print("%-6s %-32s %s" % row)
    bad = sum(row[2] != "passed" for row in rows)
    print(f"\ngpu: {len(rows) - bad} of {len(rows)} programs passed")
    return 1 if bad else 0


def libraries_of(program):
    """Paths of the shared libraries that other machines may lack."""
    listed = subprocess.run(["ldd", str(program)], stdout=subprocess.PIPE,
                            text=True, check=True).stdout
    for line in listed.splitlines():
        words = line.split()
        if len(words) > 2 and words[0].startswith(CARRIED):
            yield words[0], words[2]


def lighten(program):
    """Most of a program is for debuggers."""
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-debug", str(program)], check=True)


def pack(folder, target):
    shutil.rmtree(target, ignore_errors=True)
    size = 0
    for part in PACKED:
        for path in sorted((folder / part).rglob("*")):
            wanted = (is_program(path) or path.is_symlink()
                      or path.suffix in DATA)
            if not wanted or ".p" in {each.suffix for each in path.parents}:
                continue
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy, follow_symlinks=False)
            if path.is_symlink():
                continue
            if is_program(path):
                lighten(copy)
            size += copy.stat().st_size
            libraries = libraries_of(path) if is_program(path) else []
            for name, library in libraries:
                (target / "libs").mkdir(exist_ok=True)
                shutil.copy(library, target / "libs" / name)
    (target / SUITE).write_text(json.dumps(suite_of(folder), indent=1) + "\n")
    (target / COMMIT).write_text(commit_of(target) + "\n")
    print(f"gpu: packed {size >> 10} KiB into {target}; there: "
          f"./dev gpu --build {target}")
    if size > PACK_LIMIT:
        sys.exit(f"gpu: that is more than {PACK_LIMIT >> 20} MiB")
    return 0


def main(argv):
    if len(argv) in (3, 4) and argv[0] == "run":
        only = argv[3] if len(argv) == 4 else ""
        return run(pathlib.Path(argv[1]).resolve(), pathlib.Path(argv[2]), only)
    if len(argv) == 3 and argv[0] == "pack":
        return pack(pathlib.Path(argv[1]), pathlib.Path(argv[2]))
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
