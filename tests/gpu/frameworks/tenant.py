# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""tenant.py torch|jax QUOTA: one of two programs that share the pool.

Reads a command a line, answers with a JSON line: info, work, fill (until
there is no memory), spin (kernels until it is killed), end.
"""

import json
import sys

import outcome


class Torch:
    def __init__(self):
        self.torch = outcome.torch_exact()

    def info(self):
        return self.torch.cuda.mem_get_info()

    def work(self):
        self.torch.manual_seed(1)
        x = self.torch.randn(2048, 2048).cuda()
        return outcome.digest(x @ x)

    def fill(self):
        """How many bytes it got before it was told that there are none."""
        kept = []
        try:
            while True:
                kept.append(self.torch.empty(64 << 20, dtype=self.torch.uint8,
                                             device="cuda"))
        except self.torch.cuda.OutOfMemoryError:
            got = len(kept) * (64 << 20)
        del kept
        self.torch.cuda.empty_cache()
        return got

    def spin(self):
        x = self.torch.randn(8192, 8192, device="cuda")
        print(json.dumps("spins"), flush=True)
        while True:
            x = x @ x / x.norm()


class Jax:
    def __init__(self):
        self.jax, = outcome.need("jax")

    def info(self):
        stats = self.jax.devices()[0].memory_stats()
        return [stats["bytes_limit"] - stats["bytes_in_use"],
                stats["bytes_limit"]]

    def work(self):
        x = self.jax.random.normal(self.jax.random.key(1), (2048, 2048))
        return outcome.digest(x @ x)


def main(kind):
    tenant = {"torch": Torch, "jax": Jax}[kind]()
    for line in sys.stdin:
        if line.strip() == "end":
            break
        print(json.dumps(getattr(tenant, line.strip())()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
