#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0

"""What the preload costs whole runs of PyTorch: time, start, peak.

frameworks.py BUILD [--json FILE] [--pairs N] [--seed N]

Each program runs in pairs of fresh processes, one with the preload and one
without, in random order; what counts is the mean of the pairs' differences
and its 95 % interval. Needs a GPU and PyTorch; ends with 77 without.
"""

import argparse
import json
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/gpu/frameworks"))
import outcome  # noqa: E402 (of that folder)
import run      # noqa: E402

PAIRS = 6
WARM = 10      # steps that are not counted
QUOTA = "40G"
CALL_NS = 20   # what a call that is looked at may cost
STEPS = (
    ("ResNet-152, inference", ["torch_inference.py", "resnet152", "110"]),
    ("BERT, inference", ["torch_inference.py", "bert", "110"]),
    ("ResNet-50, training", ["torch_training.py", "110"]),
)
CALLS = (("ResNet-152, inference", "resnet152"), ("BERT, inference", "bert"))
START = "import torch; torch.zeros(1, device='cuda').cpu()"
# Student's t for 95 %, by degrees of freedom.
STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
           2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
           2.093, 2.086)


def interval(values):
    """(low, mean, high) of the mean, 95 %; at least two values."""
    mean = statistics.mean(values)
    freedom = len(values) - 1
    t = STUDENT[min(freedom, len(STUDENT)) - 1]
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean, mean + half


def first_line(*command):
    try:
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL).stdout
    except OSError:
        said = ""
    return (said.splitlines() or ["unknown"])[0]


class Figures:
    """Lines as bench/report.py reads them."""

    def __init__(self, build):
        name, _, driver = first_line(
            "nvidia-smi", "--query-gpu=name,driver_version",
            "--format=csv,noheader").partition(", ")
        packed = build / "commit"
        self.head = {
            "gpu": name, "driver": driver or "unknown",
            "commit": os.environ.get("POOLSWITCH_COMMIT") or (
                packed.read_text().strip() if packed.is_file()
                else first_line("git", "rev-parse", "--short=12", "HEAD")),
            "quick": False,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.lines = []

    def put(self, case, metric, value, unit, samples, most=None):
        line = {"bench": "frameworks", "case": case, "metric": metric,
                "value": value, "unit": unit, "samples": samples,
                "baseline": None}
        self.lines.append({**line, **self.head})
        print(f"  {case:30} {metric:34} {value:12.6g} {unit}", flush=True)
        if most is not None:
            self.lines.append({
                **line, "case": "target", "metric": f"{case}: {metric}",
                "relation": "at most", "bound": most, "met": value <= most,
                **self.head})


class Pairs:
    def __init__(self, runner, count, seed):
        self.runner, self.count = runner, count
        self.random = random.Random(seed)

    def each(self, once):
        """[(of the driver, with the preload)]; once(prefix) runs one."""
        prefixes = ([], self.runner.under(QUOTA, "bench"))
        pairs = []
        for _ in range(self.count):
            order = [0, 1]
            self.random.shuffle(order)
            got = {side: once(prefixes[side]) for side in order}
            pairs.append((got[0], got[1]))
        return pairs


def put_steps(figures, pairs, case, program):
    results = pairs.each(lambda prefix: pairs.runner.result(
        [*prefix, *run.python(program)], {}))
    times = [[statistics.median(each["times"][WARM:]) * 1000 for each in pair]
             for pair in results]
    for side, name in enumerate(("driver", "preload")):
        figures.put(case, f"step, {name}",
                    statistics.median(pair[side] for pair in times), "ms",
                    len(times))
    low, mean, high = interval(
        [(there / here - 1) * 100 for here, there in times])
    figures.put(case, "paired difference", mean, "%", len(times))
    figures.put(case, "its interval's low end", low, "%", len(times))
    figures.put(case, "its interval's high end", high, "%", len(times),
                most=1)
    put_peak(figures, case, results)
    return statistics.median(pair[0] for pair in times)


def put_peak(figures, case, results):
    """Above the peak without, less the segment that is allowed."""
    plain = max(pair[0]["peak"] for pair in results)
    clients = [pair[1]["client"] for pair in results]
    leased = max(client["leased"] for client in clients)
    figures.put(case, "peak, driver", plain / 2**20, "MiB", len(results))
    figures.put(case, "peak, preload", leased / 2**20, "MiB", len(results))
    over = max(0, leased - clients[0]["segment_bytes"] - plain)
    figures.put(case, "peak above, but for one segment", over / plain * 100,
                "%", len(results), most=3)


def put_calls(figures, pairs, case, model, step_ms):
    calls = pairs.runner.result(run.python(["torch_calls.py", model]),
                                {})["calls"]
    figures.put(case, "calls of a step", calls, "calls", 1)
    figures.put(case, f"calls at {CALL_NS} ns each, of a step",
                calls * CALL_NS / (step_ms * 1e6) * 100, "%", 1, most=0.3)


def put_start(figures, pairs):
    def once(prefix):
        began = time.perf_counter()
        pairs.runner.run([*prefix, sys.executable, "-c", START], {})
        return (time.perf_counter() - began) * 1000

    once([])  # files into the page cache
    times = pairs.each(once)
    for side, name in enumerate(("driver", "preload")):
        figures.put("PyTorch's start", f"start, {name}",
                    statistics.median(pair[side] for pair in times), "ms",
                    len(times))
    longer = statistics.median(there - here for here, there in times)
    figures.put("PyTorch's start", "longer, median of pairs", max(0, longer),
                "ms", len(times), most=20)


def measure(build, options):
    figures = Figures(build)
    with tempfile.TemporaryDirectory() as folder:
        size = int(run.gpu_memory() * run.POOL_SHARE) & ~((1 << 30) - 1)
        daemon = run.Daemon(build, folder, size)
        try:
            pairs = Pairs(run.Runner(build, daemon.socket), options.pairs,
                          options.seed)
            put_start(figures, pairs)
            steps = {case: put_steps(figures, pairs, case, program)
                     for case, program in STEPS}
            for case, model in CALLS:
                put_calls(figures, pairs, case, model, steps[case])
        finally:
            daemon.end()
    return figures.lines


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seed", type=int, default=20260101)
    options = parser.parse_args(argv)
    try:
        lines = measure(options.build.resolve(), options)
    except run.Skipped as reason:
        print(f"skipped: {reason}")
        return outcome.SKIPPED
    except run.Failed as reason:
        print(f"failed: {reason}")
        return 1
    if options.json:
        with options.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
