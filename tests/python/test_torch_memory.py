#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""PipeSwitch's six functions and PyTorch's allocators. PyTorch itself has no GPU
here: what it would call is called as it would."""

import os
import subprocess
import sys
import unittest

import support

support.skip_without("torch")

COMMON = """
import ctypes, sys
import poolswitch, torch
import poolswitch.torch as pt
from poolswitch import _native
def functions():
    library = ctypes.CDLL(_native.__file__)
    for name in ("py_torch_malloc", "py_torch_segment"):
        function = getattr(library, name)
        function.restype = ctypes.c_void_p
        function.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
    library.py_torch_free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int,
                                      ctypes.c_void_p]
    return library
def where(pool, address):
    for region in ("parameter", "computation"):
        offset, size = pool.region(region)
        if offset <= address - pool.pointer(0) < offset + size:
            return region
pt.install_pipeswitch_api()
"""

CONTROLLER = COMMON + """
torch.cuda.allocate_shared_cache(64 << 20, parameter_size=16 << 20)
torch.cuda.insert_shared_cache_for_parameter()
from poolswitch.torch import _pipeswitch
pool = _pipeswitch._pool()
address = functions().py_torch_malloc(4096, 0, None)
pool.write(address, b"weights")
print(where(pool, address), flush=True)
for _ in range(2):
    torch.cuda.send_shared_cache(timeout=60)
sys.stdin.read()
"""

WORKER = COMMON + """
torch.cuda.recv_shared_cache(timeout=60)
from poolswitch.torch import _pipeswitch
pool = _pipeswitch._pool()
torch.cuda.insert_shared_cache_for_parameter(size=4 << 20)
address = functions().py_torch_malloc(4096, 0, None)
print(where(pool, address), pool.read(address, 7).decode())
functions().py_torch_free(address, 4096, 0, None)
torch.cuda.clear_shared_cache()
torch.cuda.insert_shared_cache_for_computation()
address = functions().py_torch_malloc(4096, 0, None)
print(where(pool, address))
functions().py_torch_free(address, 4096, 0, None)
torch.cuda.clear_shared_cache()
"""


class SixCallsTest(support.FolderTest):
    def start(self, text):
        process = subprocess.Popen(
            [sys.executable, "-c", text], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "POOLSWITCH_SHARE": str(self.folder / "share")})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        return process

    def test_workers_allocate_where_the_controller_did(self):
        early, controller = self.start(WORKER), self.start(CONTROLLER)
        self.assertEqual(controller.stdout.readline(), "parameter\n")
        late = self.start(WORKER)
        for worker in (early, late):
            self.assertEqual(worker.stdout.read(),
                             "parameter weights\ncomputation\n")
            self.assertEqual(worker.wait(support.WAIT_S), 0)
        controller.stdin.close()
        self.assertEqual(controller.wait(support.WAIT_S), 0)

    def test_what_is_not_there_is_told(self):
        text = COMMON + """
for call in (torch.cuda.send_shared_cache, torch.cuda.clear_shared_cache,
             torch.cuda.insert_shared_cache_for_parameter):
    try:
        call()
    except RuntimeError as error:
        print(str(error).split(":")[0])
pt.install_pipeswitch_api()
"""
        self.assertEqual(self.python(text).splitlines(),
                         ["where is the other process? POOLSWITCH_SHARE names no "
                          "socket, and sock= was not given"]
                         + ["this process has no shared cache"] * 2)

    def test_range_beyond_the_region_is_refused(self):
        text = COMMON + """
torch.cuda.allocate_shared_cache(64 << 20, parameter_size=16 << 20)
try:
    torch.cuda.insert_shared_cache_for_parameter(size=32 << 20)
except ValueError as error:
    print(error)
"""
        self.assertIn("beyond the parameter region's 16777216", self.python(text))

    def test_no_memory_is_an_exception_of_pytorch(self):
        text = COMMON + "functions().py_torch_malloc(4096, 0, None)\n"
        done = subprocess.run([sys.executable, "-c", text], text=True,
                              stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, -6)
        self.assertIn("CUDA out of memory", done.stderr)
        self.assertIn("std::runtime_error", done.stderr)

    def test_segment_that_is_not_there_is_null(self):
        text = COMMON + "print(functions().py_torch_segment(4096, 0, None))\n"
        self.assertEqual(self.python(text), "None\n")


if __name__ == "__main__":
    support.main()
