#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Pools from Python: Python's own library is all they need."""

import gc
import os
import pickle
import socket
import subprocess
import sys
import threading
import unittest

import poolswitch
import support


class ErrorTest(unittest.TestCase):
    def test_each_status_has_one_exception(self):
        for status in poolswitch.Status:
            if status != poolswitch.Status.OK:
                error = poolswitch._errors.error_of(int(status), "the detail")
                self.assertIsInstance(error, poolswitch.Error)
                self.assertEqual(error.status, status)
                self.assertIn(f"PS_{status.name}", str(error))

    def test_exceptions_are_also_those_of_python(self):
        for status, kind in (("OUT_OF_MEMORY", MemoryError),
                             ("TIMED_OUT", TimeoutError),
                             ("NO_DAEMON", ConnectionError),
                             ("INVALID_ARGUMENT", ValueError),
                             ("NO_MODEL", LookupError),
                             ("PERMISSION", PermissionError)):
            number = poolswitch.Status[status]
            self.assertIsInstance(poolswitch._errors.error_of(number, ""), kind)

    def test_status_of_a_newer_library_is_an_error(self):
        error = poolswitch._errors.error_of(9999, "new")
        self.assertEqual((error.status, error.detail), (9999, "new"))

    def test_exception_survives_pickling(self):
        error = poolswitch._errors.error_of(10, "the detail")
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(again), again.status, str(again)),
                         (type(error), error.status, str(error)))


class WithoutDaemonTest(support.FolderTest):
    def test_ask_names_what_was_tried(self):
        where = str(self.folder / "nobody")
        with self.assertRaises(poolswitch.NoDaemon) as caught:
            poolswitch.ask(socket=where)
        self.assertIn(where, caught.exception.detail)

    def test_words_that_are_none_are_told(self):
        for call in (lambda: poolswitch.ask("everything"),
                     lambda: poolswitch.order("eat", "m"),
                     lambda: poolswitch.add("m", "f", plan="clever"),
                     lambda: poolswitch.Pool.reserve(mode="magic")):
            with self.assertRaisesRegex(ValueError, "must be"):
                call()

    def test_programs_are_there(self):
        for name in ("poolswitch", "poolswitchd"):
            self.assertTrue(os.access(poolswitch.program(name), os.X_OK))
        done = subprocess.run([sys.executable, "-m", "poolswitch", "preload-path"],
                              stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual(done.stdout, poolswitch.preload_path() + "\n")
        self.assertTrue(os.path.isfile(poolswitch.preload_path()))

    def test_module_is_the_program(self):
        done = subprocess.run([sys.executable, "-m", "poolswitch", "--version"],
                              stdout=subprocess.PIPE, text=True, check=True)
        self.assertIn(poolswitch.__version__, done.stdout)


class PoolTest(support.DaemonTest):
    def test_block_keeps_what_is_written(self):
        pool = self.attach()
        address = pool.alloc(1000)
        pool.write(address, b"as it was")
        self.assertEqual(pool.read(address, 9), b"as it was")
        pool.free(address)
        self.assertEqual(pool.stats()["live"], 0)

    def test_free_of_what_is_not_ours_is_refused(self):
        with self.assertRaises(poolswitch.InvalidArgument) as caught:
            self.attach().free(4096)
        self.assertEqual(caught.exception.status, poolswitch.Status.NOT_OURS)

    def test_too_much_is_a_memory_error(self):
        pool = self.attach()
        with self.assertRaises(MemoryError) as caught:
            pool.alloc(1 << 40)
        self.assertIn(str(1 << 40), str(caught.exception))

    def test_numbers_out_of_range_are_told(self):
        pool = self.attach()
        for call in (lambda: pool.alloc(-1), lambda: pool.alloc(0),
                     lambda: pool.pointer(1 << 50), lambda: pool.region("moon"),
                     lambda: pool.empty((1,) * 9), lambda: pool.empty(3, "F99"),
                     lambda: pool.empty((-1, 2)), lambda: pool.free("x")):
            with self.assertRaises((ValueError, IndexError, TypeError,
                                    OverflowError, MemoryError)):
                call()

    def test_stats_are_those_of_the_c_api(self):
        pool = self.attach()
        address = pool.alloc(4096)
        stats = pool.stats()
        self.assertEqual(stats["live_blocks"], 1)
        self.assertEqual(sum(live for _, _, live in stats["classes"]),
                         stats["live"])
        self.assertEqual(pool.info()[1] - pool.info()[0], stats["live"])
        pool.free(address)

    def test_stream_may_be_an_object(self):
        class Stream:
            cuda_stream = 2

        class Other:
            def __cuda_stream__(self):
                return 0, 2

        pool = self.attach()
        for stream in (None, 2, Stream(), Other()):
            pool.free(pool.alloc(512, stream=stream), stream=stream)
        with self.assertRaisesRegex(TypeError, "cuda_stream"):
            pool.alloc(512, stream="fast")

    def test_array_is_freed_with_its_last_view(self):
        pool = self.attach()
        array = pool.empty((2, 3), "F32")
        capsule = array.__dlpack__()
        self.assertEqual((array.shape, array.bytes), ((2, 3), 24))
        del array
        gc.collect()
        self.assertEqual(pool.stats()["live_blocks"], 1)
        del capsule
        self.assertEqual(pool.stats()["live_blocks"], 0)

    def test_close_with_views_is_refused(self):
        pool = self.attach()
        array = pool.empty(8)
        with self.assertRaisesRegex(BufferError, "1 views"):
            pool.close()
        del array
        pool.detach()
        self.assertTrue(pool.closed)

    def test_detach_with_blocks_says_which(self):
        pool = self.attach()
        address = pool.alloc(512)
        with self.assertRaises(poolswitch.Busy) as caught:
            pool.detach()
        self.assertIn(hex(address)[2:], str(caught.exception))
        self.assertFalse(pool.closed)
        pool.free(address)

    def test_closed_pool_serves_nothing(self):
        pool = self.attach()
        pool.close()
        for call in (lambda: pool.alloc(1), pool.stats, pool.info,
                     lambda: pool.model("m"), lambda: pool._attach(
                         None, None, 0, 0, False)):
            with self.assertRaises(ValueError):
                call()

    def test_daemon_says_who_is_attached(self):
        pool = poolswitch.Pool.attach(name="from python")
        self.addCleanup(pool.close)
        names = [each["name"] for each in poolswitch.ask("status")["clients"]]
        self.assertIn("from python", names)

    def test_capsule_is_versioned_for_who_asks(self):
        array = self.attach().empty(4)
        self.assertIn('"dltensor"', repr(array.__dlpack__()))
        self.assertIn('"dltensor_versioned"',
                      repr(array.__dlpack__(max_version=(1, 0))))
        self.assertEqual(array.__dlpack_device__(), (1, 0))
        with self.assertRaises(BufferError):
            array.__dlpack__(dl_device=(2, 0))
        with self.assertRaises(BufferError):
            array.__dlpack__(copy=True)


class SharingTest(support.FolderTest):
    """Without a daemon: reserve, send, receive, insert."""

    def test_pool_travels_to_another_process(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        text = ("import poolswitch, sys\n"
                "pool = poolswitch.Pool.receive(int(sys.argv[1]))\n"
                "pool.map()\n"
                "print(pool.read(pool.pointer(pool.region('computation')[0]), 5)"
                ".decode())\n")
        sender = (
            "import os, poolswitch, socket, subprocess, sys\n"
            "pool = poolswitch.Pool.reserve(size=64 << 20, segment_size=2 << 20)\n"
            "pool.insert_region('computation')\n"
            "address = pool.alloc(512)\n"
            "pool.write(pool.pointer(pool.region('computation')[0]), b'hello')\n"
            "pool.send(int(sys.argv[1]))\n"
            "pool.free(address)\n"
            "pool.clear()\n")
        with ours, theirs:
            first = subprocess.Popen([sys.executable, "-c", sender,
                                      str(ours.fileno())], pass_fds=[ours.fileno()])
            got = subprocess.run([sys.executable, "-c", text, str(theirs.fileno())],
                                 pass_fds=[theirs.fileno()], text=True,
                                 stdout=subprocess.PIPE, timeout=support.WAIT_S)
            self.assertEqual(first.wait(support.WAIT_S), 0)
        self.assertEqual(got.stdout, "hello\n")


class LockTest(support.FolderTest):
    def test_other_threads_run_while_a_call_waits(self):
        """An attach to who takes its question and never answers."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(listener.close)
        listener.bind(str(self.folder / "mute"))
        listener.listen()
        caught = []

        def attach():
            try:
                poolswitch.Pool.attach(socket=self.folder / "mute")
            except poolswitch.Error as error:
                caught.append(error)

        thread = threading.Thread(target=attach)
        thread.start()
        peer, _ = listener.accept()
        self.assertNotEqual(peer.recv(65536), b"")
        self.assertTrue(thread.is_alive())
        listener.close()
        peer.close()
        thread.join(support.WAIT_S)
        self.assertEqual(len(caught), 1)
        # It would have waited in vain with this thread standing still.
        self.assertNotIsInstance(caught[0], poolswitch.TimedOut)

    def test_file_is_waited_for(self):
        path = self.folder / "later"
        thread = threading.Thread(
            target=poolswitch._native.wait_for_file,
            args=(str(self.folder), str(path), support.WAIT_S * 1000))
        thread.start()
        path.touch()
        thread.join(support.WAIT_S)
        self.assertFalse(thread.is_alive())
        with self.assertRaises(TimeoutError):
            poolswitch._native.wait_for_file(str(self.folder), "/nowhere/at/all", 1)


if __name__ == "__main__":
    support.main()
