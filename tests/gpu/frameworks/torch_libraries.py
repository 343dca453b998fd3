# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""cuBLAS and cuDNN with workspaces of every size, forward and backward."""

import outcome


def run_cublas(torch):
    results = []
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        for side in (17, 256, 4096):
            a, b = (torch.randn(side, side).to("cuda", kind)
                    for _ in range(2))
            results += [a @ b, torch.baddbmm(a[None], a[None], b[None])]
    wide = torch.randn(64, 512, 300).cuda()
    results.append(torch.bmm(wide, wide.transpose(1, 2)))
    return results


def run_cudnn(torch):
    results = []
    for channels, kernel in ((3, 7), (64, 3), (256, 1)):
        layer = torch.nn.Conv2d(channels, 128, kernel).cuda()
        x = torch.randn(16, channels, 64, 64).cuda().requires_grad_()
        output = layer(x)
        output.square().mean().backward()
        results += [output, x.grad, layer.weight.grad]
    lstm = torch.nn.LSTM(256, 512, 2).cuda()
    output, _ = lstm(torch.randn(50, 16, 256).cuda())
    return [*results, output]


def main():
    torch = outcome.torch_exact()
    assert torch.backends.cudnn.is_available()
    outcome.torch_say({"cublas": outcome.digest(*run_cublas(torch)),
                      "cudnn": outcome.digest(*run_cudnn(torch))},
                     cudnn=torch.backends.cudnn.version())


if __name__ == "__main__":
    main()
