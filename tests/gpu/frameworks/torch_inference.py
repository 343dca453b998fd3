# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""torch_inference.py MODEL [RUNS]: inference of a model with random weights.

MODEL: resnet152, inception, bert.
"""

import sys
import time

import outcome

BATCH = 8


def make_vision(torch, name):
    torchvision, = outcome.need("torchvision")
    models = torchvision.models
    if name == "inception":
        model = models.inception_v3(weights=None, init_weights=False)
        side = 299
    else:
        model = models.resnet152(weights=None)
        side = 224
    return model, (torch.randn(BATCH, 3, side, side),)


def make_bert(torch):
    transformers, = outcome.need("transformers")
    model = transformers.BertModel(transformers.BertConfig())
    return model, (torch.randint(0, 30000, (BATCH, 128)),)


def main(name, runs=10):
    torch = outcome.torch_exact()
    model, inputs = (make_bert(torch) if name == "bert"
                     else make_vision(torch, name))
    model = model.eval().cuda()
    inputs = [each.cuda() for each in inputs]
    times = []
    with torch.inference_mode():
        for _ in range(int(runs)):
            torch.cuda.synchronize()
            start = time.perf_counter()
            output = model(*inputs)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    if name == "bert":
        output = output.last_hidden_state
    outcome.torch_say({"output": outcome.digest(output)}, times=times)


if __name__ == "__main__":
    main(*sys.argv[1:])
