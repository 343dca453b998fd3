# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""How long a switch of models takes, beside what people do today.

Two models of the same shape and different weights take turns in a parameter
region that holds one of them: whenever one has run, the other is on the host. Of
large ones there is one, which another, small one takes out. A
cold sample is a request for that one, from the call to its answer; after it the
same request again, with the weights there, is the ready sample of the pair.
Each cold sample has moved all of the model's bytes, and each answer is that of
weights of the process's own, to the bit: else the benchmark fails.
"""

from __future__ import annotations

import gc
import os
import pathlib
import random
import subprocess
import sys
import time

import torch

import poolswitch
import poolswitch.torch
from poolswitch.bench import baselines, figures, runs, workers, workloads
from poolswitch.bench.daemon import Daemon
from poolswitch.bench.workers import LEAST_SAMPLES, ROW_S, WARM

SEGMENT = 256 << 20
SEEDS = (1, 2)
#: How the same files are added: what their tensors travel in.
PLANS = {"planned": ("best", 0), "a tensor": ("tensor", 0), "a layer": ("layer", 0),
         "one": ("one", 0), "8 groups": ("groups", 8), "32 groups": ("groups", 32)}
LEAST_COPIES = 10
HEARD_S = 1

#: Of the cold switch above ready: of the wire's time, and at least.
OVERHEAD_SHARE, OVERHEAD_LEAST_MS = 0.05, 0.15
GRAPH_OF_IDEAL = 1.03
PLAN_WORSE = 1.01
RATE = 0.97
GROUP_US = 5


class Pair:
    """Two models of one workload, one of a large one, and how to run the colder."""

    def __init__(self, bench, plan: str):
        self._bench = bench
        self.runs = []
        #: What the daemon says that each cold sample's load took, ns.
        self.loads = []
        for seed in bench.files:
            name = f"{seed}.{plan.replace(' ', '-')}"
            kind, groups = PLANS[plan]
            poolswitch.add(name, bench.files[seed], plan=kind, groups=groups,
                           socket=bench.daemon.socket)
            module = workloads.empty(torch, bench.workload)
            self.runs.append(runs.Eager(module, name, bench.inputs))
        for _ in range(WARM):
            for run in self.runs:
                bench.spoil()
                run()
                runs.synchronize()

    def captured(self):
        self.runs = [runs.Captured(run) for run in self.runs]
        return self

    def samples(self, count: int, *, reaps: bool = True):
        """[(cold, ready)] in ns, of each in turn. reaps: each asks check() after
        its run, which gives the model up; else the next has to ask it for that."""
        found = []
        until = time.monotonic() + ROW_S
        for number in range(count):
            if number >= LEAST_SAMPLES and time.monotonic() > until:
                break
            which = number % len(self.runs)
            run = self.runs[which]
            self._bench.spoil()
            before = self._bench.copied(run)
            cold = runs.timed(run)
            run.check(self._bench.expected[which])
            moved = self._bench.moved(run, before)
            if moved != run.model.bytes:
                raise AssertionError(
                    f"{run.model.name}: a cold run moved {moved} bytes of "
                    f"{run.model.bytes}")
            self.loads.append(self._bench.load_ns(run))
            found.append((cold, runs.timed(run)))
            if reaps:
                run.bound.check()
        return found

    def retire(self) -> None:
        """Lets the daemon forget both, with their copies in host memory."""
        models = [run.model for run in self.runs]
        for run in self.runs:
            run.bound.unbind()
        self.runs = []
        del run
        gc.collect()
        for model in models:
            model.detach()
            poolswitch.order("remove", model.name)


class Bench:
    def __init__(self, workload, daemon, folder, options, out):
        self.workload, self.daemon, self.options, self.out = (
            workload, daemon, options, out)
        self.random = random.Random(options.seed)
        self.inputs = workloads.make_inputs(torch, workload, runs.device())
        self.files, self.expected = {}, []
        self.wire_ms, self.planned = 0.0, []
        for seed in SEEDS[:1] if workload.is_large else SEEDS:
            self._make(seed, pathlib.Path(folder) / f"{seed}.safetensors")
        if workload.is_large:
            self._add_spoiler(pathlib.Path(folder) / "spoiler.safetensors")

    def _make(self, seed, path):
        module = workloads.build(torch, self.workload, seed)
        module = module.to(runs.device())
        self.order = poolswitch.torch.save_model(module, path, *self.inputs)
        self.files[seed] = path
        with torch.inference_mode():
            self.expected.append(module(*self.inputs).clone())
        del module
        if runs.device().type == "cuda":
            torch.cuda.empty_cache()

    def _add_spoiler(self, path):
        """A model beside which the large one has no room in the region."""
        module = torch.nn.Module()
        module.register_buffer("bytes", torch.zeros(self.daemon.spoiler_bytes,
                                                    dtype=torch.uint8))
        poolswitch.torch.save_model(module, path)
        poolswitch.add("spoiler", path, socket=self.daemon.socket)

    def spoil(self) -> None:
        """Of a pair each takes the other out; the large one is alone."""
        if self.workload.is_large:
            poolswitch.order("load", "spoiler", socket=self.daemon.socket)

    def copied(self, run) -> int:
        return self.daemon.models()[run.model.name]["copied"]

    def load_ns(self, run) -> int:
        return self.daemon.models()[run.model.name]["load_ns"]

    def moved(self, run, before: int) -> int:
        """The daemon hears of a load's end a moment after the GPU has it."""
        until = time.monotonic() + HEARD_S
        while (moved := self.copied(run) - before) < run.model.bytes:
            if time.monotonic() > until:
                break
        return moved

    # ---- rows ----

    def put(self, row, times, baseline=None):
        self.out.put_times(f"{self.workload.name}, {row}", "request to answer", times,
                           baseline)

    def wire(self, count: int) -> float:
        wire = runs.Wire(count)
        for _ in range(WARM):
            wire.sample_ms()
        samples, until = [], time.monotonic() + ROW_S
        while len(samples) < self.options.samples:
            if len(samples) >= LEAST_COPIES and time.monotonic() > until:
                break
            samples.append(wire.sample_ms())
        samples.sort()
        self.out.put(self.workload.name, "wire, median", samples[len(samples) // 2],
                     "ms", len(samples))
        return samples[len(samples) // 2]

    def cold(self, pair, plan: str, count: int):
        with runs.no_device_memory_made(self.daemon):
            samples = pair.samples(count)
        self.put(f"cold, {plan}", [cold for cold, _ in samples], "ready")
        return samples

    def run(self) -> None:
        """Each group of rows by itself."""
        with self._group("planned"):
            self._rows_of(Pair(self, "planned"))
        if not self.workload.is_large:
            with self._group("fixed plans"):
                self._plans(self.planned)
        if runs.device().type == "cuda" and not self.workload.is_large:
            with self._group("today"):
                self._today()
            with self._group("a process"):
                self._process()

    def _group(self, what):
        return self.out.group(f"{self.workload.name}: {what}")

    def _rows_of(self, pair):
        model = pair.runs[0].model
        if runs.device().type == "cuda":
            with self._group("wire"):
                self.wire_ms = self.wire(model.bytes)
        with self._group("cold"):
            self.planned = self.cold(pair, "planned", self.options.samples)
            self.put("ready", [ready for _, ready in self.planned])
            self._judge_overhead(self.planned, self.wire_ms)
        with self._group("cold, unchecked"):
            samples = pair.samples(self.options.plan_samples, reaps=False)
            self.put("cold, the other's run not checked",
                     [cold for cold, _ in samples], "ready")
        if runs.device().type == "cuda":
            with self._group("captured graph"):
                self._captured(pair, self.wire_ms)
            if self.workload.is_large:
                with self._group("rate"):
                    self._judge_rate(model, self.wire_ms)
        self._workers(model)
        del model
        pair.retire()

    def _workers(self, model):
        """The model is the last that ran, so it is there."""
        title, key = self.workload.name, self.options.workload_key(self.workload)
        name = model.name
        poolswitch.order("load", name)
        if self.workload.has_processes or self.workload.is_large:
            with self._group("attaching"):
                workers.put_attach(self.out, title, key, name,
                                   self.options.processes)
        with self._group("another worker"):
            workers.put_resident_switch(self.out, title, key, name,
                                        self.options.samples, self.random)
        if runs.device().type == "cuda" and self.workload.has_processes:
            with self._group("many workers"):
                workers.put_many(self.out, title, key, name, model.bytes)

    def _judge_overhead(self, samples, wire_ms):
        low, mean, high = figures.interval(
            [(cold - ready) / 1e6 for cold, ready in samples])
        name, count = self.workload.name, len(samples)
        self.out.put(name, "cold above ready, mean", mean, "ms", count)
        self.out.put(name, "its interval's low end", low, "ms", count)
        self.out.judge(name, "its interval's high end", high, "ms", count,
                       most=max(OVERHEAD_SHARE * wire_ms, OVERHEAD_LEAST_MS))

    def _judge_rate(self, model, wire_ms):
        took_ms = self.daemon.models()[model.name]["load_ns"] / 1e6
        self.out.judge(self.workload.name, "rate of a load, of a plain copy's",
                       wire_ms / took_ms, "", 1, least=RATE)

    def _captured(self, eager, wire_ms):
        parts = runs.times_of_parts(eager.runs[0])
        weights = eager.runs[0].model.tensors.values()
        size = eager.runs[0].model.bytes
        end = parts.pop(-1)
        ideal = max(
            [end, wire_ms, *((weights[number].offset + weights[number].bytes) / size
                             * wire_ms + end - begun
                             for number, begun in parts.items())])
        pair = eager.captured()
        samples = pair.samples(self.options.samples)
        self.put("cold, captured graph", [cold for cold, _ in samples], "ready")
        self.put("ready, captured graph", [ready for _, ready in samples])
        self.out.put(self.workload.name, "ideal, captured graph", ideal, "ms", 1)
        cold = figures.percentile([cold for cold, _ in samples], 0.5) / 1e6
        self.out.judge(self.workload.name, "captured graph, of ideal", cold / ideal,
                       "", len(samples), most=GRAPH_OF_IDEAL)

    def _plans(self, planned):
        best = figures.percentile([cold for cold, _ in planned], 0.5)
        fixed, loads, count, groups = {}, {}, 0, 0
        for plan in list(PLANS)[1:]:
            pair = Pair(self, plan)
            samples = self.cold(pair, plan, self.options.plan_samples)
            fixed[plan] = figures.percentile([cold for cold, _ in samples], 0.5)
            loads[plan] = figures.percentile(pair.loads, 0.5)
            count, groups = len(pair.loads), len(pair.runs[0].model.tensors)
            pair.retire()
        self.out.judge(self.workload.name, "cost of a group",
                       (loads["a tensor"] - loads["one"]) / (groups - 1) / 1e3, "us",
                       count, most=GROUP_US)
        self.out.judge(self.workload.name, "planned, of the best fixed plan",
                       best / min(fixed.values()), "", len(planned), most=PLAN_WORSE)

    def _module(self):
        return workloads.build(torch, self.workload, SEEDS[0])

    def _time(self, row, run, forget=lambda: None):
        times = []
        for number in range(WARM + self.options.slow_samples):
            took = runs.timed(run)
            forget()
            if number >= WARM:
                times.append(took)
        if not torch.equal(run.result, self.expected[0]):
            raise AssertionError(f"{row}: other results")
        self.put(row, times, "ready")

    def _today(self):
        inputs = self.inputs
        run = baselines.Resident(self._module(), inputs)
        self._time("ready, weights of its own", run)
        for pinned in (True, False):
            run = baselines.TensorByTensor(self._module(), inputs, pinned=pinned)
            self._time(f".to() each tensor, {'pinned' if pinned else 'pageable'}",
                       run, run.forget)
        self._time("one copy, not pinned",
                   baselines.FlatCopy(self._module(), inputs))
        run = baselines.HostSignalled(self._module(), inputs,
                                      self.workload.hand_groups, self.order)
        self._time("host-signalled pipeline", run)
        run.end()

    def _process(self):
        """Stop and start: a process that makes the model and answers once."""
        times = []
        for _ in range(self.options.processes):
            began = time.perf_counter_ns()
            subprocess.run([sys.executable, "-m", "poolswitch.bench.fresh",
                            self.options.workload_key(self.workload)], check=True)
            times.append(time.perf_counter_ns() - began)
        self.put("a process stopped, another started", times, "ready")


def measure(workload, out, options, folder) -> None:
    """All rows of one workload."""
    os.environ.pop("POOLSWITCH_SHARE", None)
    size = sum(each.nbytes + 255 for each in workloads.empty(
        torch, workload).state_dict().values())
    segment = options.segment or SEGMENT
    with Daemon(folder, size, segment) as daemon:
        os.environ["POOLSWITCH_SOCKET"] = daemon.socket
        try:
            Bench(workload, daemon, folder, options, out).run()
        finally:
            # The next workload has a daemon of its own.
            gc.collect()
            poolswitch.torch.default_pool().close()
