#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""poolswitch model: against a daemon on the simulated GPU, and how it waits,
against one that is only played.

test_cli_store.py BUILD
"""

import json
import os
import pathlib
import pty
import socket
import struct
import sys
import threading
import unittest

import test_cli
from test_cli import EX_NOPERM, EX_UNAVAILABLE, EX_USAGE

# docs/protocol.md
MAGIC = b"PSWP"
MAJOR, MINOR = 1, 4
HEADER = struct.Struct("<4sHHHHI")
ASK, ADD, ANSWER, ADDED = 21, 25, 38, 41
HASH = bytes(range(32))

MIB = 1 << 20
# Not 65534, which stands for users without a number here.
SOMEONE = {"user": 54321, "group": 54321, "extra_groups": []}


def write_model(path, mib, byte=b"\x5a", first=0):
    """A safetensors file of tensors of 1 MiB."""
    header = {}
    for i in range(mib):
        header[f"layer.{first + i}.weight"] = {
            "dtype": "U8", "shape": [MIB],
            "data_offsets": [i * MIB, (i + 1) * MIB]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + byte * (mib * MIB))


class PlayedDaemon:
    """Says that it reads a model until enough have asked how far it is."""

    def __init__(self, path, looks):
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.server.bind(path)
        self.server.listen()
        self.looks = looks
        self.enough = threading.Event()
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:  # it was shut down
                return
            thread = threading.Thread(target=self.serve, args=(peer,))
            self.threads.append(thread)
            thread.start()

    def serve(self, peer):
        with peer:
            data, fds, _, _ = socket.recv_fds(peer, 4096, 253)
            for fd in fds:
                os.close(fd)
            kind = HEADER.unpack_from(data)[3]
            seq = data[HEADER.size:HEADER.size + 4]
            if kind == ASK:
                self.answer(peer, seq)
            elif kind == ADD:
                self.enough.wait(test_cli.WAIT_S)
                self.say(peer, ADDED, seq + HASH, [])

    def answer(self, peer, seq):
        self.looks -= 1
        text = json.dumps({"models": [
            {"name": "large", "state": "reading", "bytes": 4 << 30,
             "read": 3 << 30}]}).encode()
        fd = os.memfd_create("answer", os.MFD_CLOEXEC)
        os.write(fd, text)
        self.say(peer, ANSWER, seq + struct.pack("<I", len(text)), [fd])
        os.close(fd)
        if self.looks == 0:
            self.enough.set()

    @staticmethod
    def say(peer, kind, payload, fds):
        header = HEADER.pack(MAGIC, MAJOR, MINOR, kind, len(fds),
                             len(payload))
        socket.send_fds(peer, [header + payload], fds)

    def end(self):
        self.enough.set()
        self.server.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(test_cli.WAIT_S)
        self.server.close()


class WaitingTest(test_cli.CliTest):
    """What is seen of a model that takes long to read."""

    def setUp(self):
        super().setUp()
        self.file = self.folder / "large.safetensors"
        write_model(self.file, 1)

    def play(self, looks):
        daemon = PlayedDaemon(self.socket, looks)
        self.addCleanup(daemon.end)
        return daemon

    def add(self, **options):
        return self.ask("model", "add", "large", str(self.file), **options)

    def add_on_terminal(self, **options):
        """What it writes on a terminal that is its standard error."""
        ours, theirs = pty.openpty()
        process = self.start_on(theirs, **options)
        os.close(theirs)
        text = b""
        try:
            while more := os.read(ours, 4096):
                text += more
        except OSError:  # its other end is closed
            pass
        os.close(ours)
        self.assertEqual(process.wait(test_cli.WAIT_S), 0)
        return text, process.stdout.read()

    def start_on(self, terminal, env=None):
        process = test_cli.subprocess.Popen(
            self.command("model", "add", "--socket", self.socket, "large",
                         str(self.file)),
            text=True, stdout=test_cli.subprocess.PIPE, stderr=terminal,
            env={**self.env, **(env or {})})
        self.addCleanup(self.end, process)
        return process

    def test_terminal_shows_how_far_it_is(self):
        self.play(3)
        shown, printed = self.add_on_terminal()
        self.assertIn(b"\rreading [###########...]  75% 3.00 GiB of "
                      b"4.00 GiB", shown)
        self.assertIn(HASH.hex(), printed)

    def test_terminal_is_clean_afterwards(self):
        self.play(2)
        shown, _ = self.add_on_terminal()
        self.assertTrue(shown.endswith(b"\r\033[K"), shown)

    def test_dumb_terminal_shows_nothing(self):
        daemon = self.play(-1)
        daemon.enough.set()
        shown, _ = self.add_on_terminal(env={"TERM": "dumb"})
        self.assertEqual(shown, b"")

    def test_file_gets_no_bar(self):
        daemon = self.play(-1)
        daemon.enough.set()
        done = self.add()
        self.assert_exit(done, 0)
        self.assertEqual(done.stderr, "")
        self.assertEqual(daemon.looks, -1)


class WithoutDaemonTest(test_cli.CliTest):
    def test_no_daemon_is_unavailable(self):
        file = self.folder / "a.safetensors"
        write_model(file, 1)
        for words in (("list",), ("load", "a"), ("add", "a", str(file))):
            done = self.ask("model", *words)
            self.assert_exit(done, EX_UNAVAILABLE)
            self.assertIn(self.socket, done.stderr)

    def test_wrong_command_line_is_usage(self):
        for words in ((), ("spin",), ("load",), ("add", "a"),
                      ("load", "a", "b"), ("add", "a", "b", "c"),
                      ("load", "--plan", "one", "a"),
                      ("load", "--timeout", "soon", "a"),
                      ("add", "--plan", "fast", "a", "b"),
                      ("list", "--listen", "127.0.0.1:1")):
            self.assert_exit(self.ask("model", *words), EX_USAGE)

    def test_help_fits_80_columns(self):
        for line in self.run_cli("model", "--help").stdout.splitlines():
            self.assertLessEqual(len(line), 80, line)


class StoreTest(test_cli.CliTest):
    """Against a daemon whose parameter region has 8 MiB."""

    def setUp(self):
        super().setUp()
        self.start_daemon()

    def model(self, *words, **options):
        return self.ask("model", *words, **options)

    def add(self, name, mib, *words):
        file = self.folder / f"{name}.safetensors"
        write_model(file, mib)
        done = self.model("add", *words, name, str(file))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def order(self, *words):
        done = self.model(*words)
        self.assertEqual(done.returncode, 0, done.stderr)

    def state(self, name):
        said = json.loads(self.model("list", "--json").stdout)
        return {model["name"]: model for model in said["models"]}[name]

    def test_daemon_without_models_says_so(self):
        done = self.model("list")
        self.assert_exit(done, 0)
        self.assertIn("no models", done.stdout)

    def test_added_model_is_listed(self):
        said = self.add("bert", 3).stdout
        model = self.state("bert")
        self.assertEqual(model["state"], "host")
        self.assertEqual(model["bytes"], 3 * MIB)
        self.assertEqual(model["tensors"], 3)
        self.assertIn(model["hash"], said)
        self.assertRegex(self.model("list").stdout,
                         r"(?m)^bert +host +3\.00 MiB +\S+ MiB 0x")

    def test_model_goes_to_the_gpu_and_leaves_it(self):
        self.add("bert", 3)
        address = self.state("bert")["address"]
        self.order("load", "bert")
        self.assertEqual(self.state("bert")["state"], "resident")
        self.assertEqual(self.state("bert")["landed"], 3)
        self.order("evict", "bert")
        self.assertEqual(self.state("bert")["state"], "host")
        self.order("load", "bert")
        self.assertEqual(self.state("bert")["address"], address)
        self.order("remove", "bert")
        self.assertIn("no models", self.model("list").stdout)

    def shard(self, parts):
        """A model whose parts have a tensor each; its index."""
        where = {}
        for i in range(parts):
            name = f"model-{i + 1:05}-of-{parts:05}.safetensors"
            write_model(self.folder / name, 1, first=i)
            where[f"layer.{i}.weight"] = name
        index = self.folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {"total_size": parts * MIB},
                                     "weight_map": where}))
        return index

    def test_sharded_model_is_one(self):
        self.order("add", "sharded", str(self.shard(3)))
        self.assertEqual(self.state("sharded")["tensors"], 3)
        self.assertEqual(self.state("sharded")["bytes"], 3 * MIB)
        self.order("load", "sharded")
        self.assertEqual(self.state("sharded")["landed"], 3)

    def test_shard_that_is_missing_is_told(self):
        index = self.shard(2)
        (self.folder / "model-00002-of-00002.safetensors").unlink()
        done = self.model("add", "sharded", str(index))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("model-00002-of-00002.safetensors", done.stderr)

    def test_pinned_model_makes_no_room(self):
        self.add("first", 6)
        self.add("second", 6)
        self.order("pin", "first")
        self.assertTrue(self.state("first")["pinned"])
        done = self.model("load", "--timeout", "1", "second")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("pinned: first", done.stderr)
        self.order("unpin", "first")
        self.order("load", "second")
        self.assertEqual(self.state("first")["state"], "host")
        self.assertEqual(self.state("second")["state"], "resident")

    def test_unknown_model_is_unavailable(self):
        done = self.model("load", "nobody", "--json")
        self.assert_exit(done, EX_UNAVAILABLE)
        self.assertEqual(json.loads(done.stdout)["error"]["status"],
                         "PS_NO_MODEL")

    def test_model_larger_than_the_region_is_usage(self):
        file = self.folder / "huge.safetensors"
        write_model(file, 9)
        done = self.model("add", "huge", str(file))
        self.assert_exit(done, EX_USAGE)
        self.assertIn("huge", done.stderr)

    def test_file_that_is_none_is_usage(self):
        file = self.folder / "none.safetensors"
        file.write_bytes(b"\xff" * 100)
        done = self.model("add", "none", str(file))
        self.assert_exit(done, EX_USAGE)

    @unittest.skipIf(os.getuid() != 0, "only root can be somebody else")
    def test_order_of_another_user_is_no_permission(self):
        os.chmod(self.socket, 0o666)
        self.add("bert", 1, "--public")
        self.assert_exit(self.model("evict", "bert", **SOMEONE), EX_NOPERM)
        self.assert_exit(self.model("load", "bert", **SOMEONE), 0)
        self.assertIn("bert", self.model("list", **SOMEONE).stdout)

    @unittest.skipIf(os.getuid() != 0, "only root can be somebody else")
    def test_private_model_is_not_shown_to_others(self):
        os.chmod(self.socket, 0o666)
        self.add("bert", 1)
        self.assertIn("no models", self.model("list", **SOMEONE).stdout)


def main():
    test_cli.BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()


if __name__ == "__main__":
    main()
