# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""runtime.cu with each runtime and each kind of default stream.

The programs are started as this one was: with the library in front or not.
Says what the last of them had, and the sums of all.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import outcome

KINDS = [(runtime, stream) for runtime in ("static", "shared")
         for stream in ("legacy", "per-thread")]
BYTES = 3 * (4 << 22)


def compile_program(folder, runtime, stream):
    path = os.path.join(folder, f"{runtime}-{stream}")
    env = {key: value for key, value in os.environ.items()
           if key != "LD_PRELOAD"}
    subprocess.run(
        ["nvcc", "-O1", "-arch=native", f"--cudart={runtime}",
         f"--default-stream={stream}", "-o", path,
         str(pathlib.Path(__file__).with_name("runtime.cu"))],
        env=env, check=True)
    return path


def client_of(pid):
    for _ in range(50):
        status = outcome.ask_status()
        for each in status["clients"]:
            if each["pid"] == pid and each["answered"]:
                return dict(each, segment_bytes=
                            status["pool"]["segment_bytes"])
    return None


def run(path):
    program = subprocess.Popen([path], stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE)
    sums = program.stdout.readline().strip()
    client = client_of(program.pid) if outcome.is_preloaded() else None
    program.communicate("\n")
    if program.returncode != 0:
        sys.exit(f"{path} ended with {program.returncode}")
    if client and client["live"] < BYTES:
        sys.exit(f"{path}: {client['live']} bytes of {BYTES} in the pool")
    return sums, client


def main():
    if not shutil.which("nvcc"):
        print("skipped: no nvcc")
        sys.exit(outcome.SKIPPED)
    outputs, client = {}, None
    with tempfile.TemporaryDirectory() as folder:
        for runtime, stream in KINDS:
            path = compile_program(folder, runtime, stream)
            outputs[f"{runtime}, {stream}"], client = run(path)
    print(outcome.MARK + json.dumps(
        {"outputs": outputs, "poolable": BYTES, "peak": BYTES, "outside": 0,
         "preloaded": outcome.is_preloaded(), "client": client}))


if __name__ == "__main__":
    main()
