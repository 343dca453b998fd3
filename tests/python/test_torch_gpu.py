#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch on shared weights of a real GPU. The parameter region has room for one
model, so that each run after another model's has its weights transferred."""

import copy
import os
import subprocess
import sys
import unittest

import support

support.skip_without("torch")

import torch

if os.environ.get("POOLSWITCH_DRIVER") == "sim" or not torch.cuda.is_available():
    print("no GPU here", file=sys.stderr)
    sys.exit(support.MISSING)

import poolswitch
import poolswitch.torch as pt
from torch import nn

MIB = 1 << 20


def layers(width=1024, count=12):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(width, 8, 2 * width, batch_first=True,
                                       dropout=0.0)
    return nn.TransformerEncoder(block, count, enable_nested_tensor=False).eval()


class GpuTest(support.SwitchTest):
    SIZE, SEGMENT, PARAMETER = "4G", "64M", "512M"
    BANDWIDTH = "0"
    SPOILER = 480 * MIB

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.pool = pt.default_pool()
        cls.module = layers().cuda()
        cls.x = torch.randn(4, 64, 1024, device="cuda")
        path = cls.folder / "layers.safetensors"
        with torch.inference_mode():
            cls.expected = cls.module(cls.x)
            pt.save_model(cls.module, path, cls.x)
        poolswitch.add("layers", path)

    def bound(self, **options):
        other = copy.deepcopy(self.module)
        with torch.no_grad():
            for each in other.parameters():
                each.fill_(float("nan"))
            bound = pt.bind(other, "layers", **options)
            bound.module(self.x)
        return bound

    def assert_right(self, bound, y):
        torch.cuda.synchronize()
        bound.check()
        self.assertTrue(torch.equal(y, self.expected))
        self.assertEqual(bound.model.uses, 0)

    def test_cold_runs_give_the_same_bits(self):
        bound = self.bound()
        with torch.no_grad():
            for _ in range(10):
                self.spoil()
                self.assert_right(bound, bound.module(self.x))

    def test_runs_on_another_stream_wait_there(self):
        bound = self.bound()
        stream = torch.cuda.Stream()
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(5):
                self.spoil()
                self.assert_right(bound, bound.module(self.x))

    def test_captured_graph_stays_right(self):
        bound = self.bound()
        x = self.x.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            y = bound.module(x)
        for _ in range(10):
            self.spoil()
            y.fill_(0)
            with bound.run():
                graph.replay()
            self.assert_right(bound, y)

    def test_compiled_regions_stay_right(self):
        bound = self.bound()
        bound.compile()
        with torch.no_grad():
            for _ in range(3):
                self.spoil()
                y = bound.module(self.x)
                torch.cuda.synchronize()
                bound.check()
                torch.testing.assert_close(y, self.expected, rtol=1e-2, atol=1e-2)

    def test_views_are_the_shared_memory(self):
        bound = self.bound()
        before = torch.cuda.memory_allocated()
        other = self.bound()
        for ours, theirs in zip(bound.module.parameters(), other.module.parameters()):
            self.assertEqual(ours.data_ptr(), theirs.data_ptr())
        del other
        self.assertLess(torch.cuda.memory_allocated() - before, MIB)

    def test_dlpack_is_of_the_gpu(self):
        model = self.pool.model("layers")
        self.assertEqual(model.tensors[0].__dlpack_device__(),
                         (2, torch.cuda.current_device()))
        with model.use():
            view = torch.from_dlpack(model.tensors[0])
            name = model.tensors[0].name
            self.assertTrue(torch.equal(view, self.module.get_parameter(name)))
        del view

    def test_writer_harms_only_itself(self):
        text = ("import poolswitch.torch as pt, torch\n"
                "model = pt.default_pool().model('layers')\n"
                "run = model.use()\n"
                "run.wait(len(model.tensors) - 1)\n"
                "w = torch.from_dlpack(model.tensors[0])\n"
                "w.fill_(1)\n"
                "torch.cuda.synchronize()\n")
        bound = self.bound()
        done = subprocess.run([sys.executable, "-c", text], text=True,
                              stderr=subprocess.PIPE, timeout=120)
        self.assertNotEqual(done.returncode, 0)
        with torch.no_grad():
            self.assert_right(bound, bound.module(self.x))

    def test_mem_pool_is_the_pools_memory(self):
        made = pt.mem_pool(self.pool)
        begin = self.pool.pointer(0)
        with torch.cuda.use_mem_pool(made):
            x = torch.ones(64 * MIB, device="cuda")
        self.assertGreater(self.pool.stats()["live"], 4 * 64 * MIB - 1)
        self.assertTrue(0 <= x.data_ptr() - begin < 8 * self.pool.size)
        self.assertEqual(x.sum().item(), 64 * MIB)


class SixCallsTest(support.FolderTest):
    def test_tensors_lie_in_what_was_inserted(self):
        common = ("import sys, torch, poolswitch.torch\n"
                  "poolswitch.torch.install_pipeswitch_api()\n")
        controller = common + (
            "torch.cuda.allocate_shared_cache(1 << 30, parameter_size=256 << 20)\n"
            "torch.cuda.insert_shared_cache_for_parameter()\n"
            "w = torch.full((1 << 20,), 3.0, device='cuda')\n"
            "torch.cuda.synchronize()\n"
            "torch.cuda.send_shared_cache(timeout=60)\n"
            "sys.stdin.read()\n")
        worker = common + (
            "torch.cuda.recv_shared_cache(timeout=60)\n"
            "torch.cuda.insert_shared_cache_for_parameter()\n"
            "w = torch.empty((1 << 20,), device='cuda')\n"
            "print(w.sum().item())\n")
        env = {**os.environ, "POOLSWITCH_SHARE": str(self.folder / "share")}
        first = subprocess.Popen([sys.executable, "-c", controller], env=env,
                                 stdin=subprocess.PIPE)
        self.addCleanup(first.wait)
        self.addCleanup(first.stdin.close)
        done = subprocess.run([sys.executable, "-c", worker], env=env, text=True,
                              stdout=subprocess.PIPE, timeout=120)
        self.assertEqual(done.stdout, f"{3.0 * (1 << 20)}\n")


if __name__ == "__main__":
    support.main()
