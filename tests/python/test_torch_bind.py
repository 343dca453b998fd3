#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Modules of PyTorch on shared weights; the simulated GPU's memory is that of
PyTorch's CPU tensors."""

import copy
import gc
import json
import struct
import unittest

import support

support.skip_without("torch")

import poolswitch
import poolswitch.torch as pt
import torch
from torch import nn


class Reversed(nn.Module):
    """Uses its layers from the last to the first."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))

    def forward(self, x):
        for layer in reversed(self.layers):
            x = layer(x).relu()
        return x


class Attention(nn.Module):
    """Its projection's weights are read without the projection being called."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 2, batch_first=True)
        self.out = nn.Linear(64, 64)

    def forward(self, x):
        return self.out(self.attention(x, x, x, need_weights=False)[0])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(32, 64)
        self.head = nn.Linear(64, 32, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scratch", torch.arange(3), persistent=False)

    def forward(self, x):
        return self.head(self.embed(x))


class Writes(nn.Module):
    """One buffer is written in each run, the other only read."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.full((4,), 2.0))

    def forward(self, x):
        self.count += 1
        return x * self.scale


def convolutions():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))


class BindTest(support.SwitchTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # One for all: a pool has one place in a process.
        cls.pool = poolswitch.Pool.attach()
        cls.addClassCleanup(cls.leave)

    @classmethod
    def leave(cls):
        gc.collect()
        cls.pool.close()

    def setUp(self):
        torch.manual_seed(0)

    def add(self, module, name, *example, **options):
        path = self.folder / f"{name}.safetensors"
        order = pt.save_model(module, path, *example, **options)
        # What a copy brings is there at its beginning, on the simulated GPU.
        poolswitch.add(name, path, plan="tensor")
        return order

    def bind(self, module, name, *example, **options):
        """A copy of the module with other numbers in it, bound."""
        self.add(module, name, *example)
        other = copy.deepcopy(module)
        with torch.no_grad():
            for each in other.parameters():
                each.fill_(0)
        bound = pt.bind(other, name, pool=self.pool, **options)
        return bound

    def assert_same_runs(self, module, bound, x, runs=3):
        with torch.no_grad():
            for _ in range(runs):
                self.spoil()
                self.assertTrue(torch.equal(module(x), bound.module(x)))
        bound.check()
        self.assertEqual(bound.model.uses, 0)

    def test_bound_module_gives_the_same(self):
        module, x = Reversed().eval(), torch.randn(2, 64)
        bound = self.bind(module, "same", x)
        self.assert_same_runs(module, bound, x)
        for name, weight in bound.module.named_parameters():
            self.assertEqual(weight.data_ptr(), bound.model.tensors[name].address)

    def test_each_module_waits_for_what_it_uses_first(self):
        module, x = Reversed().eval(), torch.randn(2, 64)
        bound = self.bind(module, "waits", x, slack=0)
        self.assertEqual(bound.waits, {"": 7})
        with torch.no_grad():
            bound.module(x)
        self.assertEqual(bound.waits, {"layers.3": 1, "layers.2": 3, "layers.1": 5,
                                       "layers.0": 7})
        self.assertEqual(bound.order, list(bound.model.tensors))
        bound.module(x)
        self.assertEqual([hook.calls for hook in bound._hooks.values()], [1] * 5)

    def test_weights_of_a_module_that_is_not_called_are_waited_for(self):
        module, x = Attention().eval(), torch.randn(2, 3, 64)
        bound = self.bind(module, "attention", x, slack=0)
        self.assert_same_runs(module, bound, x)
        numbers = {name: each.number for name, each in bound.model.tensors.items()}
        self.assertEqual(bound.waits["attention"],
                         max(number for name, number in numbers.items()
                             if name.startswith("attention.")))

    def test_part_that_is_not_called_delays_nothing_and_waits_itself(self):
        class Trains(nn.Module):
            def __init__(self):
                super().__init__()
                self.main = Reversed()
                self.aux = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
                self.wants_aux = False

            def forward(self, x):
                return self.aux(x) if self.wants_aux else self.main(x)

        module, x = Trains().eval(), torch.randn(2, 64)
        bound = self.bind(module, "aux", x, slack=0)
        self.assert_same_runs(module, bound, x)
        self.assertNotIn("", bound.waits)
        self.assertEqual(bound.waits["aux.1"], len(bound.model.tensors) - 1)
        module.wants_aux = bound.module.wants_aux = True
        self.assert_same_runs(module, bound, x)

    def test_waits_near_each_other_are_one(self):
        module, x = Reversed().eval(), torch.randn(2, 64)
        bound = self.bind(module, "merged", x, slack=1 << 20)
        with torch.no_grad():
            bound.module(x)
        self.assertEqual(set(bound.waits), {f"layers.{i}" for i in range(4)})

    def test_tied_weights_stay_tied(self):
        module, x = Tied().eval(), torch.arange(5)
        bound = self.bind(module, "tied", x)
        self.assertIs(bound.module.head.weight, bound.module.embed.weight)
        self.assertEqual(len(bound.model.tensors), 1)
        self.assert_same_runs(module, bound, x)

    def test_module_on_meta_takes_no_memory(self):
        module = Reversed().eval()
        x = torch.randn(2, 64)
        self.add(module, "meta", x)
        with torch.device("meta"):
            other = Reversed().eval()
        bound = pt.bind(other, "meta", pool=self.pool)
        self.assert_same_runs(module, bound, x)

    def test_norm_in_evaluation_shares_its_buffers(self):
        module, x = convolutions().eval(), torch.randn(2, 3, 8, 8)
        bound = self.bind(module, "norm", x)
        self.assertEqual(bound.module[1].running_mean.data_ptr(),
                         bound.model.tensors["1.running_mean"].address)
        self.assert_same_runs(module, bound, x)

    def test_what_a_norm_does_not_read_delays_it_not(self):
        module, x = convolutions().eval(), torch.randn(2, 3, 8, 8)
        bound = self.bind(module, "unread", x, slack=0)
        self.assert_same_runs(module, bound, x)
        self.assertLess(bound.waits["1"], bound.model.tensors["3.weight"].number)
        self.assertNotIn("", bound.waits)

    def test_norm_in_training_has_its_own(self):
        module, x = convolutions().train(), torch.randn(2, 3, 8, 8)
        bound = self.bind(module, "training", x)
        with torch.no_grad():
            for _ in range(2):
                self.spoil()
                self.assertTrue(torch.equal(module(x), bound.module(x)))
        for name, buffer in module.named_buffers():
            ours = bound.module.get_buffer(name)
            self.assertTrue(torch.equal(buffer, ours), name)
            self.assertNotEqual(ours.data_ptr(), bound.model.tensors[name].address)

    def test_only_buffers_that_are_written_are_copied(self):
        module, x = Writes().eval(), torch.randn(4)
        bound = self.bind(module, "writes")
        module(x), bound.module(x), bound.module(x)
        self.assertEqual(bound.module.scale.data_ptr(),
                         bound.model.tensors["scale"].address)
        self.assertEqual(bound.module.count.item(), module.count.item() + 1)

    def test_module_that_does_not_match_is_told(self):
        self.add(Reversed(), "other")
        for module, word in ((nn.Linear(64, 64), "not in the model"),
                             (Reversed().half(), "float16"),
                             (Tied(), "embed.weight")):
            with self.assertRaisesRegex(poolswitch.ModelMismatch, word):
                pt.bind(module, "other", pool=self.pool)
        class Smaller(Reversed):
            def __init__(self):
                super().__init__()
                del self.layers[3]
        with self.assertRaisesRegex(poolswitch.ModelMismatch, "not in the module"):
            pt.bind(Smaller(), "other", pool=self.pool)
        pt.bind(Smaller(), "other", pool=self.pool, strict=False)

    def test_other_shape_is_told(self):
        self.add(nn.Linear(4, 8), "shape")
        with self.assertRaisesRegex(poolswitch.ModelMismatch, r"\[8, 5\]"):
            pt.bind(nn.Linear(5, 8), "shape", pool=self.pool)

    def test_exception_in_a_run_releases(self):
        bound = self.bind(Reversed().eval(), "raises", torch.randn(2, 64))
        for _ in range(2):
            with self.assertRaises(RuntimeError):
                bound.module(torch.randn(2, 65))
            self.assertEqual(bound.model.uses, 0)

    def test_unbound_module_waits_no_more(self):
        bound = self.bind(Reversed().eval(), "unbound", torch.randn(2, 64))
        bound.unbind()
        self.assertNotIn("forward", bound.module.__dict__)
        self.assertEqual([each for each in bound.module.modules()
                          if "forward" in each.__dict__], [])

    def test_forgotten_module_gives_the_model_up(self):
        bound = self.bind(Reversed().eval(), "forgotten", torch.randn(2, 64))
        bound.module(torch.randn(2, 64))
        with self.assertRaises(poolswitch.Busy):
            poolswitch.order("remove", "forgotten")
        with self.assertRaises(BufferError):
            bound.model.detach()
        del bound
        gc.collect()
        poolswitch.order("remove", "forgotten")

    def test_compiled_regions_give_the_same(self):
        module, x = Reversed().eval(), torch.randn(2, 64)
        bound = self.bind(module, "compiled", x)
        with torch.no_grad():
            bound.module(x)
            bound.compile(backend="eager")
        self.assert_same_runs(module, bound, x)
        self.assertGreater(len(bound.waits), 1)

    def test_torch_compile_of_the_whole_gives_the_same(self):
        module, x = Reversed().eval(), torch.randn(2, 64)
        bound = self.bind(module, "whole", x)
        with torch.no_grad():
            bound.module(x)
            compiled = torch.compile(bound.module, backend="eager")
            for _ in range(2):
                self.spoil()
                self.assertTrue(torch.equal(module(x), compiled(x)))
        self.assertEqual(bound.model.uses, 0)


class SaveTest(support.FolderTest):
    def header(self, path):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            return json.loads(file.read(length))

    def save(self, module, *example, **options):
        path = self.folder / "model.safetensors"
        order = pt.save_model(module, path, *example, **options)
        header = self.header(path)
        self.assertEqual(order, sorted(
            (name for name in header if name != "__metadata__"),
            key=lambda name: header[name]["data_offsets"]))
        return order

    def test_order_is_that_of_first_use(self):
        order = self.save(Reversed(), torch.randn(2, 64))
        self.assertEqual(order, [f"layers.{i}.{part}" for i in (3, 2, 1, 0)
                                 for part in ("weight", "bias")])

    def test_unread_goes_before_what_its_module_read(self):
        order = self.save(convolutions().eval(), torch.randn(2, 3, 8, 8))
        self.assertEqual(order.index("1.num_batches_tracked"),
                         order.index("0.bias") + 1)

    def test_unread_of_a_called_module_goes_before_the_next(self):
        class Keeps(nn.Identity):
            def __init__(self):
                super().__init__()
                self.register_buffer("kept", torch.zeros(2))
        order = self.save(nn.Sequential(nn.Linear(4, 4), Keeps(), nn.Linear(4, 4)),
                          torch.randn(4))
        self.assertEqual(order, ["0.weight", "0.bias", "1.kept", "2.weight",
                                 "2.bias"])

    def test_what_is_not_called_goes_last(self):
        class Skips(Reversed):
            def forward(self, x):
                return self.layers[3](x)
        order = self.save(Skips(), torch.randn(2, 64))
        self.assertEqual(order[:3], ["layers.3.weight", "layers.3.bias",
                                     "layers.0.weight"])

    def test_recorded_order_is_kept(self):
        module = Reversed()
        recorded = pt.record_order(module, torch.randn(2, 64))
        self.assertEqual(self.save(module), recorded)

    def test_callers_order_goes_first(self):
        self.assertEqual(self.save(Reversed(), order=["layers.1.bias"])[0],
                         "layers.1.bias")

    def test_without_a_run_it_is_the_definitions(self):
        self.assertEqual(self.save(nn.Linear(2, 3)), ["weight", "bias"])

    def test_tied_weights_are_written_once(self):
        self.assertEqual(self.save(Tied(), torch.arange(3)), ["embed.weight"])

    def test_contents_are_the_modules(self):
        module = nn.Linear(3, 2).to(torch.bfloat16)
        module.weight.data = module.weight.data.t().contiguous().t()
        path = self.folder / "model.safetensors"
        pt.save_model(module, path, metadata={"format": "pt"})
        header = self.header(path)
        self.assertEqual(header["__metadata__"], {"format": "pt"})
        begin, end = header["weight"]["data_offsets"]
        at = path.stat().st_size - max(
            each["data_offsets"][1] for name, each in header.items()
            if name != "__metadata__")
        data = path.read_bytes()[at + begin:at + end]
        expected = module.weight.detach().contiguous().view(torch.uint8)
        self.assertEqual(list(data), expected.flatten().tolist())
        self.assertEqual(header["weight"]["dtype"], "BF16")

    def test_failed_save_leaves_nothing(self):
        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("odd", torch.zeros(2, dtype=torch.complex128))
        with self.assertRaisesRegex(TypeError, "complex128"):
            pt.save_model(Odd(), self.folder / "odd")
        self.assertEqual(list(self.folder.glob("odd*")), [])


if __name__ == "__main__":
    support.main()
