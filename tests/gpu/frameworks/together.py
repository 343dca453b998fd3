# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch and JAX at once, each within its quota: each sees its own memory;
one that runs out of it, or is killed in a kernel, leaves the other alone."""

import json
import os
import pathlib
import subprocess
import sys
import time

import outcome

GIB = 1 << 30
TORCH_QUOTA, JAX_QUOTA = 8 * GIB, 4 * GIB
WAIT_S = 120


class Tenant:
    def __init__(self, kind, quota):
        self.process = subprocess.Popen(
            [os.environ["TH_POOLSWITCH"], "run", "--quota", str(quota),
             "--name", kind, "--", sys.executable,
             str(pathlib.Path(__file__).with_name("tenant.py")), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.name = kind

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command):
        self.tell(command)
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            if code == outcome.SKIPPED:
                sys.exit(outcome.SKIPPED)
            sys.exit(f"{self.name} ended with {code} at {command}")
        return json.loads(line)

    def end(self):
        self.tell("end")
        return self.process.wait(WAIT_S)


def clients():
    return {each["name"]: each for each in outcome.ask_status()["clients"]
            if each["presence"] != "dead"}


def expect(is_so, what, *found):
    if not is_so:
        sys.exit(f"{what}: {found}")
    print(f"yes: {what} {found}")


def await_gone(name):
    for _ in range(WAIT_S * 10):
        if name not in clients():
            return
        time.sleep(0.1)
    sys.exit(f"{name} keeps its lease")


def check(torch, jax):
    alone = jax.ask("work"), torch.ask("work")
    free, total = torch.ask("info")
    expect(total <= TORCH_QUOTA and 0 < free <= total,
           "PyTorch sees its own quota", free, total)
    limit = jax.ask("info")[1]
    expect(limit <= JAX_QUOTA, "JAX sees its own quota", limit)
    got = torch.ask("fill")
    expect(TORCH_QUOTA * 0.8 < got <= TORCH_QUOTA,
           "PyTorch runs out at its quota", got)
    expect((jax.ask("work"), torch.ask("work")) == alone,
           "both go on with the same results")
    before = clients()["jax"]["leased"]
    torch.ask("spin")
    torch.process.kill()
    torch.process.wait(WAIT_S)
    expect(jax.ask("work") == alone[0], "JAX goes on when PyTorch is killed")
    await_gone("torch")
    expect(clients()["jax"]["leased"] == before,
           "and has what it had", before)


def main():
    torch, jax = Tenant("torch", TORCH_QUOTA), Tenant("jax", JAX_QUOTA)
    try:
        check(torch, jax)
        expect(jax.end() == 0, "JAX ends well")
    finally:
        for tenant in (torch, jax):
            if tenant.process.poll() is None:
                tenant.process.kill()
                tenant.process.wait()


if __name__ == "__main__":
    main()
