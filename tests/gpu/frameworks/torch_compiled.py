# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""torch.compile with CUDA graphs, and a graph that is captured by hand with
blocks allocated and freed inside."""

import outcome


def run_compiled(torch):
    model = torch.nn.Sequential(
        torch.nn.Linear(1024, 4096), torch.nn.GELU(),
        torch.nn.Linear(4096, 1024), torch.nn.LayerNorm(1024)).eval().cuda()
    compiled = torch.compile(model, mode="reduce-overhead")
    inputs = [torch.randn(64, 1024, device="cuda") for _ in range(4)]
    results = []
    with torch.inference_mode():
        for step in range(12):
            results.append(compiled(inputs[step % 4]).clone())
    return results


def captured_part(torch, x, weight):
    """Needs blocks of its own, which end inside."""
    for _ in range(8):
        wide = torch.relu(x @ weight)
        x = wide @ weight.t() / wide.abs().max()
        del wide
    return x


def run_captured(torch):
    x = torch.randn(128, 512, device="cuda")
    weight = torch.randn(512, 2048, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        captured_part(torch, x, weight)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = captured_part(torch, x, weight)
    results = []
    for step in range(6):
        # Memory that comes and goes between replays is not the graph's.
        noise = torch.full((1 << 20,), float(step), device="cuda")
        x.copy_(torch.randn(128, 512))
        graph.replay()
        results.append(result.clone())
        del noise
    return results


def main():
    torch = outcome.torch_exact()
    compiled = run_compiled(torch)
    captured = run_captured(torch)
    outcome.torch_say({"compiled": outcome.digest(*compiled),
                      "captured": outcome.digest(*captured)})


if __name__ == "__main__":
    main()
