# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""torch_training.py [STEPS]: a training loop; its losses to the bit."""

import sys
import time

import outcome


def main(steps=30):
    torch = outcome.torch_exact()
    torchvision, = outcome.need("torchvision")
    model = torchvision.models.resnet50(weights=None, num_classes=100).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(4, 32, 3, 128, 128)
    labels = torch.randint(0, 100, (4, 32))
    losses, times = [], []
    for step in range(int(steps)):
        start = time.perf_counter()
        optimizer.zero_grad()
        output = model(images[step % 4].cuda())
        loss = torch.nn.functional.cross_entropy(output,
                                                 labels[step % 4].cuda())
        loss.backward()
        optimizer.step()
        losses.append(loss.item().hex())
        times.append(time.perf_counter() - start)
    outcome.torch_say({"losses": losses,
                      "weights": outcome.digest(*model.parameters())},
                     times=times)


if __name__ == "__main__":
    main(*sys.argv[1:])
