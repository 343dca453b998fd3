# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""One network on the GPU, run and timed: resident, or on its way."""

from __future__ import annotations

import contextlib
import time

import torch

import poolswitch.torch


def device() -> torch.device:
    cpu = poolswitch.simulated.is_chosen() or not torch.cuda.is_available()
    return torch.device("cpu" if cpu else "cuda")


def synchronize() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()


def timed(run) -> int:
    """Nanoseconds from a request to its answer; the GPU has nothing else to do."""
    synchronize()
    began = time.perf_counter_ns()
    run()
    synchronize()
    return time.perf_counter_ns() - began


class Eager:
    """A bound module as a program calls it."""

    def __init__(self, module, name: str, inputs):
        self._module, self._inputs = module, inputs
        self.bound = poolswitch.torch.bind(module, name)
        self.model = self.bound.model

    def __call__(self):
        with torch.inference_mode():
            self.result = self._module(*self._inputs)

    def check(self, expected) -> None:
        """Bit by bit: the kernels are the same, so are their results."""
        self.bound.check()
        if not torch.equal(self.result, expected):
            raise AssertionError(f"{self.model.name}: other results than with "
                                 "weights of its own")


class Captured:
    """The same in one graph, whose launch overlaps with the arrival."""

    def __init__(self, eager: Eager):
        self._eager = eager
        self.model = eager.model
        with torch.inference_mode():
            eager()
            synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self.result = eager._module(*eager._inputs)

    def __call__(self):
        with self._eager.bound.run():
            self._graph.replay()

    check = Eager.check

    @property
    def bound(self):
        return self._eager.bound


def _capture(eager: Eager, stamp=lambda mark: None):
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        stamp("begin")
        eager._module(*eager._inputs)
        stamp("end")
    return graph


def _replay_ms(eager: Eager, graph) -> float:
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    with eager.bound.run():
        begin.record()
        graph.replay()
        end.record()
    synchronize()
    return begin.elapsed_time(end)


def _capture_stamped(eager: Eager):
    """The graph, and by tensor the event where it is first waited for."""
    stamps = {}

    def stamp(mark):
        if mark not in stamps:
            stamps[mark] = torch.cuda.Event(enable_timing=True, external=True)
            stamps[mark].record()

    modules = dict(eager._module.named_modules())
    handles = [modules[name].register_forward_pre_hook(
        lambda *unused, number=number: stamp(number))
        for name, number in eager.bound.waits.items() if number >= 0]
    try:
        eager()
        synchronize()
        # No event ends while a graph is captured.
        warm = dict(stamps)
        stamps.clear()
        graph = _capture(eager, stamp)
        warm.clear()
    finally:
        for handle in handles:
            handle.remove()
    return graph, stamps


def times_of_parts(eager: Eager, repeats: int = 5) -> dict[int, float]:
    """By tensor: when, in ms from the start of a graph's launch, the module that
    waits for it begins, with all weights there; and -1: when all has ended.

    The stamps take time themselves: all is scaled to a graph without them."""
    graph, stamps = _capture_stamped(eager)
    plain = _capture(eager)
    best, plain_ms, stamped_ms = {}, [], []
    for _ in range(repeats):
        plain_ms.append(_replay_ms(eager, plain))
        stamped_ms.append(_replay_ms(eager, graph))
        for mark, event in stamps.items():
            at = stamps["begin"].elapsed_time(event)
            key = -1 if mark == "end" else mark
            best[key] = min(best.get(key, at), at)
    best.pop("begin", None)
    scale = min(plain_ms) / min(stamped_ms)
    return {mark: at * scale for mark, at in best.items()}


class Wire:
    """What a plain copy of so many bytes takes, by the GPU's clock."""

    def __init__(self, count: int):
        self._host = torch.empty(count, dtype=torch.uint8, pin_memory=True)
        self._host.zero_()
        self._there = torch.empty(count, dtype=torch.uint8, device="cuda")

    def sample_ms(self) -> float:
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        self._there.copy_(self._host, non_blocking=True)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)


@contextlib.contextmanager
def no_device_memory_made(daemon):
    """Fails when the process or the daemon creates or frees any inside."""
    def counts():
        own = torch.cuda.memory_stats() if device().type == "cuda" else {}
        status = poolswitch.ask("status", socket=daemon.socket)
        return (own.get("num_device_alloc", 0), own.get("num_device_free", 0),
                status["counters"]["remakes"])

    before = counts()
    yield
    after = counts()
    if before != after:
        raise AssertionError(f"device memory was made or freed: {before}, {after}")
