# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""fresh.py WORKLOAD [--stay]: what a new process does until its first answer.

With --stay it says so then, and ends at the end of its input."""

import sys

import torch

from poolswitch.bench import workloads


def main(name: str, stay: str = "") -> None:
    workload = workloads.ALL[name]
    module = workloads.build(torch, workload, 1).cuda()
    inputs = workloads.make_inputs(torch, workload, "cuda")
    with torch.inference_mode():
        module(*inputs)
    torch.cuda.synchronize()
    if stay:
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
