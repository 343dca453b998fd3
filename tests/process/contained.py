# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""A CUDA program in a container: takes a block, fills it, says what it reads,
and keeps it until its input ends."""

import ctypes
import os
import sys

BYTES = 4 << 20


def main():
    cuda = ctypes.CDLL(os.environ["POOLSWITCH_SIM_LIBRARY"])
    context, block = ctypes.c_void_p(), ctypes.c_uint64()
    word = ctypes.c_uint()
    results = [
        cuda.cuInit(0),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
        cuda.cuCtxSetCurrent(context),
        cuda.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(BYTES)),
        cuda.cuMemsetD32_v2(block, ctypes.c_uint(0x5eed),
                            ctypes.c_size_t(BYTES // 4)),
        cuda.cuMemcpyDtoH_v2(ctypes.byref(word), block, ctypes.c_size_t(4)),
    ]
    print(results, hex(word.value), os.getpid(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
