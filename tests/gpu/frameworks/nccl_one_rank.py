# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""NCCL with one rank: its collectives on memory of the pool, also inside a
captured graph."""

import os
import tempfile

import outcome


def run_collectives(torch, distributed):
    x = torch.randn(1 << 22).cuda()
    total, everything = x.clone(), [torch.empty_like(x)]
    scattered = torch.empty_like(x)
    distributed.all_reduce(total)
    distributed.broadcast(total, 0)
    distributed.all_gather(everything, x)
    distributed.reduce_scatter(scattered, [x])
    return [total, everything[0], scattered]


def run_captured(torch, distributed):
    x = torch.randn(1 << 20).cuda()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        distributed.all_reduce(x)
        y = x * 2
    graph.replay()
    torch.cuda.synchronize()
    return [x, y]


def main():
    torch = outcome.torch_exact()
    distributed = torch.distributed
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(
            "nccl", init_method="file://" + os.path.join(folder, "store"),
            rank=0, world_size=1, device_id=torch.device("cuda", 0))
        results = run_collectives(torch, distributed)
        results += run_captured(torch, distributed)
        outcome.torch_say({"results": outcome.digest(*results)},
                         nccl=list(torch.cuda.nccl.version()))
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
