#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Frameworks on the pool: the same program without and with the preload.

run.py --list
run.py BUILD CASE [--json FILE] [--size BYTES]

Starts a poolswitchd of its own on part of the GPU's memory (the run without
the preload needs some too). Exit status: 0 passed, 77 skipped, else failed.
"""

import argparse
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import judge
import outcome

HERE = pathlib.Path(__file__).resolve().parent
RUN_S = 240  # one run of a program
POOL_SHARE = 0.6  # of the GPU's memory

EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
ORDERED = {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}
# What makes cuBLAS and XLA give the same bits each time: XLA chooses kernels by
# how fast they just were.
EXACT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8",
         "XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}

# Case: (program and arguments, environment, quota)
CASES = {
    "driver": (["driver_calls.py"], {}, "1G"),
    "runtimes": (["runtimes.py"], {}, "4G"),
    "resnet152": (["torch_inference.py", "resnet152"], {}, "20G"),
    "inception": (["torch_inference.py", "inception"], {}, "20G"),
    "bert": (["torch_inference.py", "bert"], {}, "20G"),
    "training": (["torch_training.py"], {}, "20G"),
    "compile": (["torch_compiled.py"], {}, "20G"),
    "triton": (["triton_kernels.py"], {}, "20G"),
    "libraries": (["torch_libraries.py"], {}, "20G"),
    "nccl": (["nccl_one_rank.py"], {}, "20G"),
    "sharing": (["torch_sharing.py"], {}, "20G"),
    "ipc": (["ipc_handles.py"], {}, "4G"),
    "resnet152-expandable": (["torch_inference.py", "resnet152"],
                             EXPANDABLE, "20G"),
    "training-expandable": (["torch_training.py"], EXPANDABLE, "20G"),
    "resnet152-ordered": (["torch_inference.py", "resnet152"],
                          ORDERED, "20G"),
    "training-ordered": (["torch_training.py"], ORDERED, "20G"),
    # Without the preload a fraction of the GPU, with it of the quota.
    "jax": (["jax_arrays.py"], {}, "20G"),
    "jax-platform": (["jax_arrays.py"],
                     {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform"}, "20G"),
    "cupy": (["cupy_pools.py"], {}, "20G"),
    "together": (["together.py"], {}, None),
    "own-tests": (["own_tests.py"], {}, "20G"),
}
# Their memory is the program's own objects: the pool makes room for it.
OUTSIDE = {"resnet152-expandable", "training-expandable"}


class Skipped(Exception):
    """The text says what is missing."""


class Failed(Exception):
    """The text says what went wrong."""


# ---- the daemon ----

def gpu_memory():
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total",
             "--format=csv,noheader,nounits", "--id=0"],
            stdout=subprocess.PIPE, text=True, check=True).stdout
        return int(said.split()[0]) << 20
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        raise Skipped("nvidia-smi finds no GPU") from None


class Daemon:
    def __init__(self, build, folder, size):
        self.socket = os.path.join(folder, "socket")
        self.log = open(os.path.join(folder, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [str(build / "poold/poolswitchd"), "--socket", self.socket,
             "--size", str(size), "--parameter", "0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=self.log, text=True)
        if not self.process.stdout.readline():
            raise Failed("poolswitchd does not start: " + self.said())

    def said(self):
        self.log.seek(0)
        return self.log.read()[-2000:]

    def end(self):
        """It must have nothing left, and end by itself."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = -1
        self.process.stdout.close()
        if code != 0:
            raise Failed(f"poolswitchd ended with {code}: {self.said()}")


# ---- programs ----

class Runner:
    def __init__(self, build, socket):
        self.poolswitch = str(build / "cli/poolswitch")
        self.env = {**os.environ, **EXACT, "TH_POOLSWITCH": self.poolswitch,
                    "POOLSWITCH_SOCKET": socket}
        self.env.pop("LD_PRELOAD", None)

    def under(self, quota, name):
        """What stands before a program that is to run on the pool."""
        return [self.poolswitch, "run", "--quota", quota, "--name", name,
                "--"]

    def run(self, argv, env):
        """The program's output; it is shown as well."""
        done = subprocess.run(
            argv, env={**self.env, **env}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True, timeout=RUN_S)
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
        if done.returncode == outcome.SKIPPED:
            raise Skipped(done.stdout.strip().rpartition("skipped: ")[2])
        if done.returncode != 0:
            raise Failed(f"{' '.join(argv)} ended with {done.returncode}")
        return done.stdout

    def result(self, argv, env):
        for line in self.run(argv, env).splitlines():
            if line.startswith(outcome.MARK):
                return json.loads(line[len(outcome.MARK):])
        raise Failed(f"{' '.join(argv)} said no result")


def python(program):
    return [sys.executable, str(HERE / program[0]), *program[1:]]


def run_pair(runner, name):
    program, env, quota = CASES[name]
    fraction = {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".1"}
    plain = runner.result(python(program), {**env, **fraction})
    pooled = runner.result(
        [*runner.under(quota, name), *python(program)], env)
    if name in OUTSIDE:
        pooled["outside"] += pooled["poolable"]
        pooled["poolable"] = 0
    if name == "jax":
        # It takes its fraction at once, which is another here.
        plain["peak"] = max(plain["peak"], pooled["poolable"])
    found = list(judge.complaints(plain, pooled))
    if found:
        raise Failed("; ".join(found))
    return {"share": judge.share_of(pooled),
            "outside": pooled["client"]["outside"],
            "leased": pooled["client"]["leased"], "peak": plain["peak"],
            "versions": pooled.get("versions", {})}


def run_together(runner, name):
    runner.run(python(CASES[name][0]), {})
    return {}


def run_own_tests(runner, name):
    """TH_OWN_TESTS: words for pytest, as a shell would read them."""
    words = shlex.split(os.environ.get("TH_OWN_TESTS", ""))
    if not words:
        raise Skipped("TH_OWN_TESTS names no tests")
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for prefix in ([], runner.under(CASES[name][2], name)):
            out = os.path.join(folder, "outcomes")
            runner.run([*prefix, *python(CASES[name][0]), out,
                        *words], {})
            with open(out, encoding="utf-8") as file:
                outcomes.append(json.load(file))
    worse = judge.worse_tests(*outcomes)
    if worse:
        raise Failed(f"{len(worse)} tests fail with the preload only: "
                     + ", ".join(worse[:20]))
    passed = sum(each == "passed" for each in outcomes[1].values())
    if not passed:
        raise Failed("none of the tests passed")
    return {"tests": len(outcomes[1]), "tests_passed": passed}


RUNS = {"together": run_together, "own-tests": run_own_tests}


def run_case(build, name, size):
    with tempfile.TemporaryDirectory() as folder:
        size = size or int(gpu_memory() * POOL_SHARE) & ~((1 << 30) - 1)
        daemon = Daemon(build, folder, size)
        try:
            return RUNS.get(name, run_pair)(
                Runner(build, daemon.socket), name)
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{late.cmd[0]} has not ended after {RUN_S} s"
                         ) from None
        finally:
            daemon.end()


def verdict(build, name, size):
    """(exit status, {what is kept of it})"""
    try:
        return 0, {"result": "passed", **run_case(build, name, size)}
    except Skipped as reason:
        return outcome.SKIPPED, {"result": "skipped", "why": str(reason)}
    except Failed as reason:
        return 1, {"result": "failed", "why": str(reason)}


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("build", nargs="?", type=pathlib.Path)
    parser.add_argument("case", nargs="?", choices=sorted(CASES))
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--size", type=int, help="of the pool, in bytes")
    options = parser.parse_args(argv)
    if options.list:
        print("\n".join(CASES))
        return 0
    if options.case is None:
        parser.error("BUILD and CASE are wanted")
    began = time.monotonic()
    status, kept = verdict(options.build.resolve(), options.case,
                           options.size)
    kept = {"case": options.case, **kept,
            "seconds": round(time.monotonic() - began, 1)}
    print(f"{options.case}: {kept['result']} {kept.get('why', '')}")
    if options.json:
        options.json.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
