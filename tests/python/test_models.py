#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Models from Python: Python's own library is all they need."""

import gc
import hashlib
import unittest
import weakref

import poolswitch
import support


def weights(seed, count=6, size=16384):
    """Bytes that no other seed has."""
    tensors = {}
    for number in range(count):
        block = hashlib.shake_256(f"{seed} {number}".encode()).digest(size)
        tensors[f"layer{number}.weight"] = ("F32", (size // 4,), block)
    return tensors


class ModelTest(support.SwitchTest):
    def add(self, name, tensors, **options):
        path = support.write_safetensors(self.folder / f"{name}.safetensors", tensors)
        return poolswitch.add(name, path, **options)

    def model(self, name, tensors):
        digest = self.add(name, tensors)
        model = self.attach().model(name)
        self.addCleanup(model.detach)
        self.assertEqual(model.hash, digest)
        return model

    def test_tensors_are_those_of_the_file(self):
        tensors = weights("file")
        model = self.model("file", tensors)
        self.assertEqual(list(model.tensors), list(tensors))
        for name, tensor in model.tensors.items():
            dtype, shape, data = tensors[name]
            self.assertEqual((tensor.dtype, tensor.shape, tensor.bytes),
                             (dtype, shape, len(data)))
            self.assertEqual(tensor.address, model.address + tensor.offset)
            self.assertTrue(tensor.readonly)
        self.assertNotIn("layer9.weight", model.tensors)

    def read(self, model, tensor, size):
        """Behind what the stream waits for."""
        poolswitch.simulated.synchronize()
        return model.pool.read(tensor.address, size)

    def test_weights_arrive(self):
        tensors = weights("arrive")
        model = self.model("arrive", tensors)
        for _ in range(2):
            self.spoil()
            with model.use() as run:
                run.wait(len(tensors) - 1)
                for name, (_, _, data) in tensors.items():
                    self.assertTrue(
                        self.read(model, model.tensors[name], len(data)) == data)
            model.check()
        self.assertEqual(model.uses, 0)

    def hooks(self, model, tensors):
        """One for each tensor, that reads it, below one for the run."""
        def read(name):
            # The stream is waited for by the hook itself.
            return model.pool.read(model.tensors[name].address,
                                   len(tensors[name][2]))

        inner = [poolswitch._native.Hook(model, read, None, (), number, 100, -1, False)
                 for number in range(len(tensors))]
        return poolswitch._native.Hook(
            model, lambda: [hook(name) for hook, name in zip(inner, tensors)],
            None, (), -1, 100, -1, True)

    def test_hook_waits_for_its_tensor(self):
        tensors = weights("hooked")
        model = self.model("hooked", tensors)
        run = self.hooks(model, tensors)
        for _ in range(3):
            self.spoil()
            # No difference of so many bytes: that takes a minute to print.
            self.assertTrue(run() == [data for _, _, data in tensors.values()])
        self.assertEqual((run.calls, model.uses), (3, 0))

    def test_hook_releases_when_what_it_calls_raises(self):
        model = self.model("raises", weights("raises", 1))
        run = poolswitch._native.Hook(model, lambda: 1 / 0, None, (), 0, 100, -1, True)
        with self.assertRaises(ZeroDivisionError):
            run()
        self.assertEqual(model.uses, 0)

    def test_hook_asks_for_the_current_stream(self):
        model = self.model("streams", weights("streams", 1))
        asked = []
        run = poolswitch._native.Hook(
            model, lambda: None, lambda device: asked.append(device) or 2, (7,), 0,
            100, -1, True)
        run()
        self.assertEqual(asked, [7, 7])
        wrong = poolswitch._native.Hook(
            model, lambda: None, lambda: "none", (), 0, 100, -1, True)
        with self.assertRaises(TypeError):
            wrong()
        self.assertEqual(model.uses, 0)

    def test_hook_is_forgotten_with_what_it_stands_in(self):
        class Module:
            def forward(self):
                return 1

        model = self.model("cycle", weights("cycle", 1))
        module = Module()
        module.forward = poolswitch._native.Hook(
            model, module.forward, None, (), 0, 100, -1, True)
        self.assertEqual(module.forward(), 1)
        forgotten = weakref.ref(module)
        del module
        gc.collect()
        self.assertIsNone(forgotten())

    def test_weights_that_are_not_in_use_are_not_shown(self):
        model = self.model("unused", weights("unused", 1))
        with self.assertRaisesRegex(BufferError, "not in use"):
            model.tensors["layer0.weight"].__dlpack__()

    def test_weights_cannot_be_written(self):
        model = self.model("whole", weights("whole", 1))
        with model.use() as run, self.assertRaises(poolswitch.InvalidArgument) as bad:
            run.wait(0)
            model.pool.write(model.address, b"mine")
        self.assertEqual(bad.exception.status, poolswitch.Status.READ_ONLY)

    def test_attach_checks_the_hash(self):
        self.add("hashed", weights("hashed", 1))
        pool = self.attach()
        with self.assertRaises(poolswitch.ModelMismatch):
            pool.model("hashed", hash=bytes(32))
        with self.assertRaisesRegex(ValueError, "32 bytes"):
            pool.model("hashed", hash=b"short")
        with self.assertRaises(poolswitch.NoModel):
            pool.model("nobodys")

    def test_wait_for_what_is_not_there_is_told(self):
        model = self.model("waits", weights("waits", 2))
        with self.assertRaises(ValueError):
            model.wait(0)
        with model.use() as run:
            with self.assertRaises(IndexError):
                run.wait(2)
            with self.assertRaises(ValueError):
                run.wait("no such")

    def test_detach_in_use_is_refused(self):
        model = self.model("busy", weights("busy", 1))
        run = model.use()
        with self.assertRaises(poolswitch.Busy):
            model.detach()
        run.release()
        run.release()
        self.assertEqual(model.uses, 0)

    def test_detach_with_views_is_refused(self):
        model = self.model("viewed", weights("viewed", 1))
        capsule = model.tensors[0].__dlpack__(stream=-1)
        with self.assertRaises(BufferError):
            model.detach()
        del capsule
        gc.collect()
        model.detach()
        with self.assertRaisesRegex(ValueError, "detached"):
            model.use()

    def test_forgotten_use_ends_with_the_model(self):
        self.add("forgotten", weights("forgotten", 1))
        pool = self.attach()
        model = pool.model("forgotten")
        model.use()
        del model
        gc.collect()
        poolswitch.order("evict", "forgotten")

    def test_orders_move_a_model(self):
        self.add("moved", weights("moved", 1))
        for what, state in (("load", "resident"), ("evict", "host")):
            poolswitch.order(what, "moved")
            models = {each["name"]: each for each in poolswitch.ask("models")["models"]}
            self.assertEqual(models["moved"]["state"], state)
        poolswitch.order("remove", "moved")
        with self.assertRaises(poolswitch.NoModel):
            poolswitch.order("load", "moved")

    def test_costs_are_taken(self):
        model = self.model("costs", weights("costs", 3))
        model.set_costs([1000, 2000, 3000])
        with self.assertRaises(ValueError):
            model.set_costs([1])
        with self.assertRaises(OverflowError):
            model.set_costs([1 << 40] * 3)

    def test_file_that_breaks_a_rule_is_named(self):
        path = self.folder / "broken"
        path.write_bytes(b"\x08" + bytes(7) + b"not json")
        with self.assertRaises(poolswitch.InvalidArgument):
            poolswitch.add("broken", path)
        with self.assertRaises(poolswitch.Error):
            poolswitch.add("none", self.folder / "none")

    def test_descriptor_will_do(self):
        path = support.write_safetensors(self.folder / "fd", weights("fd", 1))
        with open(path, "rb") as file:
            self.assertEqual(len(poolswitch.add("fd", file.fileno())), 32)


if __name__ == "__main__":
    support.main()
