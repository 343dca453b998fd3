# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""What a program of this folder says at its end, for run.py.

A program does not know whether it runs on the pool: it does the same either
way. At the moment when it has the most memory it calls say(), which asks the
daemon what this process has, if the preload is there, and prints a line.
"""

import hashlib
import json
import os
import subprocess
import sys
import time

MARK = "RESULT "
LIBRARY = "libpoolswitch_preload.so"
SKIPPED = 77


def is_preloaded():
    """Whether the library really is in this process."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return any(LIBRARY in line for line in maps)


def need(*modules):
    """Imports them; ends the program as skipped where one is missing."""
    try:
        return [__import__(name) for name in modules]
    except ImportError as error:
        print(f"skipped: {error}")
        sys.exit(SKIPPED)


def digest(*values):
    """Of the very bytes: equal digests are equal to the bit."""
    total = hashlib.sha256()
    for value in values:
        if hasattr(value, "detach"):  # PyTorch
            value = value.detach().cpu()
            if value.element_size() == 2:  # NumPy has no bfloat16
                value = value.float()
            value = value.contiguous().numpy()
        elif hasattr(value, "get"):  # CuPy
            value = value.get()
        elif hasattr(value, "block_until_ready"):  # JAX
            import numpy
            value = numpy.asarray(value)
        if hasattr(value, "tobytes"):
            value = str((value.dtype, value.shape)).encode() + value.tobytes()
        elif not isinstance(value, bytes):
            value = repr(value).encode()
        total.update(value)
    return total.hexdigest()


def ask_status():
    program = os.environ["TH_POOLSWITCH"]
    env = {key: value for key, value in os.environ.items()
           if key != "LD_PRELOAD"}
    done = subprocess.run([program, "status", "--json"], env=env, check=True,
                          stdout=subprocess.PIPE, text=True, timeout=60)
    return json.loads(done.stdout)


def own_client():
    """What the daemon says of this process, with its own word in it; also
    the size of a segment. A busy process may need to be asked again."""
    for _ in range(50):
        status = ask_status()
        mine = [each for each in status["clients"]
                if each["pid"] == os.getpid()]
        if mine and mine[0]["answered"]:
            return dict(mine[0],
                        segment_bytes=status["pool"]["segment_bytes"])
        time.sleep(0.1)
    return None


def say(outputs, poolable, peak=None, outside=0, **more):
    """
    outputs:  {name: digest}, the same with and without the preload
    poolable: bytes that are allocated now and that the pool can hold, by the
              framework's own count
    peak:     the most that it had of the driver, by its own count
    outside:  bytes allocated now that the pool cannot hold
    """
    line = {"outputs": outputs, "poolable": int(poolable),
            "peak": int(poolable if peak is None else peak),
            "outside": int(outside), "preloaded": is_preloaded(),
            "client": own_client() if is_preloaded() else None, **more}
    print(MARK + json.dumps(line), flush=True)


def torch_say(outputs, **more):
    """The same for PyTorch's own allocator."""
    import torch
    torch.cuda.synchronize()
    say(outputs, torch.cuda.memory_reserved(),
        peak=torch.cuda.max_memory_reserved(),
        versions={"torch": torch.__version__,
                  "cuda": torch.version.cuda}, **more)


def torch_exact():
    """PyTorch, made to give the same bits each time."""
    torch, = need("torch")
    if not torch.cuda.is_available():
        print("skipped: PyTorch sees no GPU")
        sys.exit(SKIPPED)
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch
