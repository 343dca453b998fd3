# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Triton kernels on memory of the pool: addition, and a row-wise softmax."""

import outcome

torch = outcome.torch_exact()
triton, = outcome.need("triton")
from triton import language as tl  # noqa: E402 (behind the check above)


@triton.jit
def add_kernel(x, y, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    tl.store(out + at, tl.load(x + at, mask=inside)
             + tl.load(y + at, mask=inside), mask=inside)


@triton.jit
def softmax_kernel(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside,
                     other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row * columns + at, powers / tl.sum(powers, axis=0),
             mask=inside)


def main():
    x, y = (torch.randn(1 << 24).cuda() for _ in range(2))
    total = torch.empty_like(x)
    add_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, total, x.numel(),
                                                BLOCK=1024)
    rows = torch.randn(4096, 1000).cuda()
    softmax = torch.empty_like(rows)
    softmax_kernel[(4096,)](rows, softmax, 1000, BLOCK=1024)
    torch.cuda.synchronize()
    assert torch.equal(total, x + y)
    assert torch.allclose(softmax, torch.softmax(rows, 1), atol=1e-6)
    outcome.torch_say({"add": outcome.digest(total),
                      "softmax": outcome.digest(softmax)})


if __name__ == "__main__":
    main()
