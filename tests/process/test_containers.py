#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""What docs/containers.md says: a program in namespaces and a root of its own,
with the socket's folder and the library in it, lives on the pool.

test_containers.py BUILD
"""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import unittest

import test_cli

HERE = pathlib.Path(__file__).resolve().parent
LIVE = 4 << 20
WAIT_TIMES = 300
ALL = ("--mount", "--net", "--ipc", "--uts")
OWN_PIDS = ("--pid", "--fork", "--kill-child")


def can_unshare():
    if not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", *ALL, *OWN_PIDS, "mount", "-t", "tmpfs",
                           "none", "/mnt"], stderr=subprocess.DEVNULL
                          ).returncode == 0


@unittest.skipUnless(can_unshare(), "namespaces are for root here")
class ContainersTest(test_cli.CliTest):
    def setUp(self):
        super().setUp()
        (self.folder / "sockets").mkdir()
        (self.folder / "root").mkdir()
        self.socket = str(self.folder / "sockets" / "socket")
        self.start_daemon()

    def start_contained(self, *namespaces):
        """The program, and what it said."""
        contained = self.start(
            "unshare", *ALL, *namespaces, "sh", str(HERE / "container.sh"),
            str(self.folder / "root"), str(self.folder / "sockets"),
            str(test_cli.BUILD / "preload/libpoolswitch_preload.so"),
            str(test_cli.BUILD / "device/sim/libcuda.so.1"),
            self.env["POOLSWITCH_SIM_DIR"], str(HERE / "contained.py"),
            sys.base_prefix, stdin=subprocess.PIPE)
        self.addCleanup(contained.stdin.close)
        return contained, contained.stdout.readline()

    def client(self):
        for _ in range(100):
            clients = json.loads(self.ask("clients", "--json").stdout)
            clients = clients["clients"]
            if clients and clients[0]["live"]:
                return clients[0]
        self.fail("the daemon never saw it")

    def await_free(self):
        """Until all is clean again, and nobody has any of it."""
        for _ in range(WAIT_TIMES):
            status = json.loads(self.ask("status", "--json").stdout)
            region = status["regions"]["computation"]
            if not status["clients"] and region["clean"] == region["bytes"]:
                return
            time.sleep(0.1)
        self.fail(f"it is not free again: {status}")

    def test_container_lives_on_the_pool(self):
        contained, said = self.start_contained()
        self.assertIn("[0, 0, 0, 0, 0, 0] 0x5eed", said)
        client = self.client()
        self.assertEqual((client["name"], client["live"], client["passed"]),
                         ("contained", LIVE, 0))
        contained.stdin.close()
        self.assertEqual(contained.wait(test_cli.WAIT_S), 0)
        self.await_free()

    def test_container_with_pids_of_its_own_is_seen_by_ours(self):
        contained, said = self.start_contained(*OWN_PIDS)
        self.assertEqual(said.split()[-1], "1")
        client = self.client()
        self.assertGreater(client["pid"], 1)
        self.assertIn("/program.py", pathlib.Path(
            f"/proc/{client['pid']}/cmdline").read_text())
        contained.stdin.close()
        contained.wait(test_cli.WAIT_S)
        self.await_free()

    def test_container_that_is_killed_leaves_nothing(self):
        contained, _ = self.start_contained(*OWN_PIDS)
        self.client()
        contained.send_signal(signal.SIGKILL)
        contained.wait(test_cli.WAIT_S)
        self.await_free()

    def test_container_without_the_socket_is_told(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(test_cli.WAIT_S)
        _, said = self.start_contained()
        self.assertIn("[0, 0, 0, 802,", said)


def main():
    test_cli.BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()


if __name__ == "__main__":
    main()
