# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""worker.py WORKLOAD MODEL: a process that is bound to a model and runs it.

Each line on stdin is answered by a line: "run" by the nanoseconds that it took;
"attach" by those of attaching to the model, of using it for the first time and of
making every view, in this order, before anything else was asked for.
"""

import sys
import time

import torch

import poolswitch
import poolswitch.torch
from poolswitch.bench import runs, workloads
from poolswitch.torch import _bind


class Worker:
    def __init__(self, workload: str, name: str):
        self._workload = workloads.ALL[workload]
        self._name = name
        self._run = None

    def attach(self) -> str:
        pool = poolswitch.torch.default_pool()
        if runs.device().type == "cuda":
            torch.cuda.init()
        marks = [time.perf_counter_ns()]
        model = pool.model(self._name)
        marks.append(time.perf_counter_ns())
        use = model.use()
        marks.append(time.perf_counter_ns())
        views = _bind._Views(model)
        tensors = [views.of(weight) for weight in model.tensors.values()]
        marks.append(time.perf_counter_ns())
        use.release()
        assert len(tensors) == len(model.tensors)
        return " ".join(str(end - begin) for begin, end in zip(marks, marks[1:]))

    def run(self) -> str:
        if self._run is None:
            module = workloads.empty(torch, self._workload)
            inputs = workloads.make_inputs(torch, self._workload, runs.device())
            self._run = runs.Eager(module, self._name, inputs)
            for _ in range(3):
                self._run()
        return str(runs.timed(self._run))


def main(workload: str, name: str) -> None:
    worker = Worker(workload, name)
    for line in sys.stdin:
        print({"run": worker.run, "attach": worker.attach}[line.strip()](), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
