#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0

"""Run one benchmark with --quick and look at what it wrote.

Not a measurement: it keeps the benchmarks alive on machines without a GPU.
Every line must be complete, name the run, and hold a sensible number, and the
cases that the documentation's tables are made of must be there.
"""

import math
import os
import pathlib
import subprocess
import sys
import tempfile

import report

EXPECTED = {
    "alloc": (
        ("poolswitch async, 1000 live, 512 B to 1 GiB", "pair p99.9"),
        ("poolswitch plain, 1000 live, 512 B to 1 GiB", "pair median"),
        ("cuMemAllocAsync, 1000 live, 512 B to 1 GiB", "pair mean, untimed"),
        ("poolswitch async, 1000 live, 512 B to 1 GiB", "faster, by median"),
        ("poolswitch async, 8 threads, own blocks", "throughput, of 1 thread"),
        ("poolswitch async, 8 threads, a tenth of others, own stream",
         "throughput"),
        ("cuMemAllocAsync, 8 threads, own blocks", "throughput"),
        ("poolswitch async, 8 threads, own blocks", "faster, by throughput"),
    ),
    "attach": (
        ("poolswitch VMM, reserve", "ps_alloc_shared"),
        ("poolswitch VMM, reserve", "of that pool"),
        ("poolswitch VMM, receive", "first allocation"),
        ("poolswitch VMM, receive", "all mapped, of the sum"),
        ("poolswitch VMM, receive", "faster, all mapped"),
        ("poolswitch legacy IPC, receive", "first allocation"),
        ("bare driver, one segment at a time", "sum"),
        ("bare driver, one allocation and CUDA IPC", "cuIpcOpenMemHandle"),
    ),
    "grant": (
        ("poolswitchd, start", "ready"),
        ("grant of 1 GiB, parked", "median"),
        ("grant of 1 GiB, parked", "faster, by median"),
        ("grant of 1 GiB, clean, not mapped here", "median"),
        ("grant of 1 GiB, to be scrubbed first", "median"),
        ("cuMemAlloc and cuMemFree, 1 GiB", "median"),
        ("client killed", "reused after the fence"),
        ("agent killed", "next grant"),
        ("1 client", "taken and returned"),
        ("4 clients at once", "of that with 1 client"),
        ("beside 4 that never pause", "taken, p99"),
        ("beside one that is stopped", "of that alone"),
    ),
    "model": (
        ("16 MiB, wire", "copy rate"),
        ("16 MiB, bound", "at best"),
        ("16 MiB, ready", "p50"),
        ("16 MiB, resident", "p50"),
        ("16 MiB, cold", "p50"),
        ("16 MiB, cold", "of the bound"),
        ("16 MiB, graph", "of the bound"),
        ("16 MiB, cold, a group a layer", "p99"),
        ("16 MiB, cold, one copy", "p50"),
    ),
    "preload": (
        ("driver, pairs of 2 MiB", "pair median"),
        ("preload, pairs of 2 MiB", "pair median"),
        ("preload, pairs of 64 MiB", "faster, by median"),
        ("preload, pairs of 1024 MiB", "faster, by median"),
        ("driver, a stream busy for 50 ms", "free"),
        ("preload, a stream busy for 50 ms", "free"),
        ("preload, cuMemFree of no memory", "added to a call"),
        ("preload, cuDevicePrimaryCtxRetain", "added to a call"),
    ),
    "switch_latency": (
        ("poolswitch VMM, kept, 1 GiB", "switch p50"),
        ("poolswitch VMM, kept, 1 GiB", "switch p99"),
        ("poolswitch VMM, kept, spinning, 1 GiB", "switch p50"),
        ("poolswitch VMM, remap, 1 GiB", "switch p50"),
        ("poolswitch legacy IPC, kept, 1 GiB", "switch p50"),
        ("CUDA IPC, reopen, 1 GiB", "switch p50"),
        ("cuMemFree + cuMemAlloc, 1 GiB", "switch p50"),
        ("poolswitch VMM, kept, 1 GiB", "faster, by p50"),
    ),
}


def check(bench, lines):
    for n, line in enumerate(lines, 1):
        if line["bench"] != bench:
            yield f"line {n}: bench is {line['bench']}"
        if not line["quick"] or "simulated" not in line["driver"]:
            yield f"line {n}: does not say that it is quick and simulated"
        if not math.isfinite(line["value"]) or line["value"] < 0:
            yield f"line {n}: {line['metric']} is {line['value']}"
        if line["samples"] < 1:
            yield f"line {n}: no samples"
        if line["case"] == "target":
            yield f"line {n}: judges a simulated GPU"
    have = {(line["case"], line["metric"]) for line in lines}
    for pair in EXPECTED[bench]:
        if pair not in have:
            yield f"no line for {pair}"
    if len(lines) != len(have):
        yield "a figure is there twice"


def run(program, folder):
    path = pathlib.Path(folder) / "out.jsonl"
    env = dict(os.environ, POOLSWITCH_SIM_DIR=folder)
    done = subprocess.run([program, "--quick", "--json", str(path)], env=env,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{program} --quick ended with {done.returncode}")
    return path.read_text(encoding="utf-8").splitlines()


def main(bench, program):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        texts = run(program, folder)
    try:
        lines = [report.read_line(text, f"line {n}")
                 for n, text in enumerate(texts, 1)]
    except report.Wrong as wrong:
        sys.exit(f"{bench}: {wrong}")
    wrong = list(check(bench, lines))
    if wrong:
        sys.exit(f"{bench}: " + "; ".join(wrong))
    print(f"{bench}: {len(lines)} lines are as they should be")


if __name__ == "__main__":
    main(*sys.argv[1:])
