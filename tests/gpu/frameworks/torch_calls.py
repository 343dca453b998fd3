# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""torch_calls.py MODEL: how many calls of CUDA one inference makes, by
PyTorch's own profiler."""

import sys

import outcome
import torch_inference


def main(name):
    torch = outcome.torch_exact()
    model, inputs = (torch_inference.make_bert(torch) if name == "bert"
                     else torch_inference.make_vision(torch, name))
    model = model.eval().cuda()
    inputs = [each.cuda() for each in inputs]
    activities = [torch.profiler.ProfilerActivity.CPU,
                  torch.profiler.ProfilerActivity.CUDA]
    with torch.inference_mode():
        model(*inputs)
        with torch.profiler.profile(activities=activities) as profile:
            model(*inputs)
            torch.cuda.synchronize()
    calls = sum(event.count for event in profile.key_averages()
                if event.key.startswith("cu"))
    outcome.torch_say({}, calls=calls)


if __name__ == "__main__":
    main(*sys.argv[1:])
