#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""poolswitch run: what becomes of a program, and of one that is not started.

test_cli_starts.py BUILD
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import unittest

import test_cli
from test_cli import EX_UNAVAILABLE, EX_USAGE

LIBRARY = "libpoolswitch_preload.so"
NOT_EXECUTED, NO_PROGRAM = 126, 127
RUNS = 60
MOST_MS = 2  # what `run -- true` may cost more than `true`


class RunTest(test_cli.CliTest):
    def run_program(self, *words, **options):
        return self.ask("run", *words, **options)

    def environment_of(self, *words, **options):
        """What a program that was started so finds in its environment."""
        done = self.run_program(*words, "--", "env", "-0", **options)
        self.assert_exit(done, 0)
        return dict(line.split("=", 1)
                    for line in done.stdout.split("\0") if line)


class WithoutDaemonTest(RunTest):
    def test_run_without_daemon_starts_nothing(self):
        mark = self.folder / "started"
        done = self.run_program("--", "touch", str(mark))
        self.assert_exit(done, EX_UNAVAILABLE)
        self.assertIn(self.socket, done.stderr)
        self.assertFalse(mark.exists())

    def test_run_without_daemon_passes_when_told(self):
        self.assert_exit(self.run_program("--no-daemon=pass", "true"), 0)
        self.assert_exit(self.run_program(
            "true", env={"POOLSWITCH_NO_DAEMON": "pass"}), 0)

    def test_run_option_goes_before_the_environment(self):
        done = self.run_program("--no-daemon=fail", "true",
                                env={"POOLSWITCH_NO_DAEMON": "pass"})
        self.assert_exit(done, EX_UNAVAILABLE)

    def test_run_wrong_command_line_is_usage(self):
        for words in ((), ("--",), ("--quota", "4X", "true"),
                      ("--free", "never", "true"),
                      ("--log", "loud", "true"),
                      ("--name", "n" * 300, "true")):
            self.assert_exit(self.run_program(*words), EX_USAGE)

    def test_run_failure_with_json_is_json(self):
        done = self.run_program("--json", "true")
        error = json.loads(done.stdout)["error"]
        self.assertEqual(error["exit"], EX_UNAVAILABLE)
        self.assertEqual(error["status"], "PS_NO_DAEMON")


class PlacesTest(RunTest):
    """The program moved, with and without its library."""

    def setUp(self):
        super().setUp()
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        shutil.copy(test_cli.BUILD / "cli/poolswitch", self.bin)
        self.env["LD_LIBRARY_PATH"] = str(test_cli.BUILD / "lib")

    def command(self, *words):
        return [str(self.bin / "poolswitch"), *words]

    def put_library(self, folder):
        folder.mkdir(exist_ok=True)
        shutil.copy(test_cli.BUILD / "preload" / LIBRARY, folder)
        return str(folder / LIBRARY)

    def preloaded(self):
        return self.environment_of("--no-daemon=pass")["LD_PRELOAD"]

    def test_run_without_library_is_unavailable(self):
        done = self.run_program("--no-daemon=pass", "true")
        self.assert_exit(done, EX_UNAVAILABLE)
        self.assertIn(LIBRARY, done.stderr)

    def test_run_finds_the_library_beside_itself(self):
        path = self.put_library(self.bin)
        self.assertEqual(self.preloaded(), path)

    def test_run_finds_the_library_of_its_build(self):
        path = self.put_library(self.folder / "preload")
        self.assertEqual(self.preloaded(), path)

    def test_run_path_that_cannot_be_preloaded_is_told(self):
        self.bin = self.bin.rename(self.folder / "a b")
        self.put_library(self.bin)
        done = self.run_program("--no-daemon=pass", "true")
        self.assert_exit(done, EX_UNAVAILABLE)
        self.assertIn("space", done.stderr)


class WithDaemonTest(RunTest):
    def setUp(self):
        super().setUp()
        self.start_daemon()

    def test_run_ends_as_its_program_does(self):
        self.assert_exit(self.run_program("--", "sh", "-c", "exit 7"), 7)
        done = self.run_program("--", "sh", "-c", "kill -9 $$")
        self.assert_exit(done, -9)

    def test_run_gives_the_program_its_arguments(self):
        done = self.run_program("printf", "%s,", "--quota", "-x", "a b")
        self.assertEqual(done.stdout, "--quota,-x,a b,")

    def test_run_program_that_is_not_there_is_127(self):
        done = self.run_program("--", "no-such-program")
        self.assert_exit(done, NO_PROGRAM)
        self.assertIn("no-such-program", done.stderr)

    def test_run_program_that_cannot_run_is_126(self):
        self.assert_exit(self.run_program("--", str(self.folder)),
                         NOT_EXECUTED)

    def test_run_puts_the_options_into_the_environment(self):
        env = self.environment_of(
            "--quota=40G", "--reservation", "1G", "--name", "a b",
            "--free=wait", "--at-quota=spill", "--log=info")
        self.assertEqual(
            {name[11:]: value for name, value in env.items()
             if name.startswith("POOLSWITCH_")
             and not name.startswith("POOLSWITCH_SIM")},
            {"QUOTA": "40G", "RESERVATION": "1G", "NAME": "a b",
             "FREE": "wait", "AT_QUOTA": "spill", "LOG": "info",
             "SOCKET": self.socket, "DRIVER": "sim"})

    def test_run_keeps_what_else_is_preloaded(self):
        env = self.environment_of(env={"LD_PRELOAD": "libm.so.6"})
        library, other = env["LD_PRELOAD"].split(":")
        self.assertEqual(pathlib.Path(library).name, LIBRARY)
        self.assertTrue(os.path.isabs(library))
        self.assertEqual(other, "libm.so.6")

    def test_run_in_run_preloads_once(self):
        env = self.environment_of("--", *self.command("run"))
        self.assertEqual(env["LD_PRELOAD"].count(LIBRARY), 1)

    def test_run_leaves_no_descriptor_to_the_program(self):
        done = self.run_program("--", "sh", "-c", "ls /proc/self/fd")
        # 3: the folder that ls reads
        self.assertEqual(done.stdout.split(), ["0", "1", "2", "3"])

    def test_run_says_nothing_of_its_own(self):
        done = self.run_program("--", "true")
        self.assertEqual((done.stdout, done.stderr), ("", ""))


class CostTest(RunTest):
    def setUp(self):
        super().setUp()
        self.start_daemon()

    def milliseconds(self, *words):
        start = time.perf_counter()
        subprocess.run(words, env=self.env, check=True)
        return (time.perf_counter() - start) * 1000

    def test_run_costs_little_more_than_the_program(self):
        run = self.command("run", "--socket", self.socket, "--", "true")
        pairs = [(self.milliseconds("true"), self.milliseconds(*run))
                 for _ in range(RUNS)]
        # What else the machine does only adds.
        alone, with_run = (min(each) for each in zip(*pairs))
        print(f"true {alone:.2f} ms, poolswitch run -- true "
              f"{with_run:.2f} ms")
        self.assertLess(with_run - alone, MOST_MS)


def main():
    test_cli.BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()


if __name__ == "__main__":
    main()
