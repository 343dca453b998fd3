# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of several processes on one resident model."""

from __future__ import annotations

import subprocess
import sys
import time

import torch

from poolswitch.bench import figures

WARM = 3
#: A row takes no more than this, unless it has the least number of samples.
ROW_S = 40
LEAST_SAMPLES = 30
RESIDENT_US = 150
PYTHON_MS = 20
WORKERS = 10
#: Of what a process takes, which is not to the byte the same each time.
TOLERANCE = 64 << 20


class Worker:
    """A process of poolswitch.bench.worker."""

    def __init__(self, workload: str, name: str):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "poolswitch.bench.worker", workload, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, what: str) -> None:
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()

    def ask(self, what: str) -> list[int]:
        self.begin(what)
        return self.answer()

    def answer(self) -> list[int]:
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError(f"a worker ended with {self._process.wait()}")
        return [int(word) for word in said.split()]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *unused) -> None:
        self._process.stdin.close()
        self._process.wait()


def _after(worker, other, chance) -> tuple[int, int]:
    """What a run takes after another worker's, and after a rest as long: in either
    order, so that neither is always the one on a GPU that has cooled down."""
    def after_other():
        other.ask("run")
        return worker.ask("run")[0]

    def after_rest(seconds):
        time.sleep(seconds)
        return worker.ask("run")[0]

    began = time.monotonic()
    other.ask("run")
    rest = time.monotonic() - began
    worker.ask("run")
    if chance.random() < 0.5:
        first = after_other()
        return first, after_rest(rest)
    own = after_rest(rest)
    return after_other(), own


def put_resident_switch(out, title: str, workload: str, name: str, samples: int,
                        chance) -> None:
    """Another worker has run last, or this one has; the model is there."""
    switched, ready = [], []
    with Worker(workload, name) as other, Worker(workload, name) as worker:
        for _ in range(WARM):
            _after(worker, other, chance)
        until = time.monotonic() + ROW_S
        while len(ready) < samples:
            if len(ready) >= LEAST_SAMPLES and time.monotonic() > until:
                break
            after_other, after_own = _after(worker, other, chance)
            switched.append(after_other)
            ready.append(after_own)
    out.put_times(f"{title}, resident, another worker", "request to answer", switched,
                  "ready")
    out.put_times(f"{title}, resident, the same worker", "request to answer", ready)
    _, mean, _ = figures.interval([(a - b) / 1e3 for a, b in zip(switched, ready)])
    out.judge(title, "another worker above the same, mean", mean, "us", len(ready),
              most=RESIDENT_US)


def used_bytes() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


def put_many(out, title: str, workload: str, name: str, weights: int) -> None:
    """What each of ten processes adds to the device's memory, and what a process
    with weights of its own adds beside those."""
    before = used_bytes()
    with subprocess.Popen([sys.executable, "-m", "poolswitch.bench.fresh", workload,
                           "--stay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as control:
        control.stdout.readline()
        own = used_bytes() - before - weights
        control.stdin.close()
    before, workers = used_bytes(), []
    try:
        for _ in range(WORKERS):
            workers.append(Worker(workload, name).__enter__())
            workers[-1].begin("run")
        for worker in workers:
            worker.answer()
        each = (used_bytes() - before) / WORKERS
    finally:
        for worker in workers:
            worker.__exit__()
    out.put(title, "a process with its own weights, less these", own / 2**20, "MiB", 1)
    out.judge(title, f"each of {WORKERS} workers", each / 2**20, "MiB", WORKERS,
              most=(own + TOLERANCE) / 2**20)


def put_attach(out, title: str, workload: str, name: str, samples: int) -> None:
    """Of a model that is resident, in a process that has not had it."""
    found = []
    for _ in range(samples):
        with Worker(workload, name) as worker:
            found.append(worker.ask("attach"))
    for place, what in enumerate(("attach", "first use, which maps", "every view")):
        out.put_times(f"{title}, resident", what, [each[place] for each in found])
    views = figures.percentile([each[0] + each[2] for each in found], 0.5) / 1e6
    out.judge(title, "attaching and every view, in Python", views, "ms", samples,
              most=PYTHON_MS)
