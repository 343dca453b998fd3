#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""./dev on machines that it must refuse, or that lack packages.

The machine is pretended: PATH holds a few real tools and stand-ins for those
that tell what the machine is.
"""

import os
import pathlib
import pty
import shutil
import subprocess
import tempfile
import unittest

DEV = pathlib.Path(__file__).resolve().parent.parent / "dev"
REAL = ["sh", "cat", "dirname", "sort", "head", "grep", "sed", "env"]
UNAVAILABLE = 69


class DevTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.bin = pathlib.Path(folder.name)
        for name in REAL:
            (self.bin / name).symlink_to(shutil.which(name))
        self.stand_in("uname", 'case $1 in -s) echo Linux;; '
                      '-m) echo x86_64;; *) echo 6.1.0-18-amd64;; esac')
        self.stand_in("getconf", "echo glibc 2.36")
        self.stand_in("id", "echo 1000")
        self.stand_in("apt-get", f'echo "$@" >>{self.bin}/installed')

    def stand_in(self, name, script):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def dev(self, *words, stdin=subprocess.DEVNULL):
        return subprocess.run(
            [str(self.bin / "sh"), str(DEV), *words], text=True,
            env={"PATH": str(self.bin)}, stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def assert_refused(self, about):
        for command in ("demo", "test"):
            done = self.dev(command)
            self.assertEqual(done.returncode, UNAVAILABLE, done.stdout)
            self.assertIn(about, done.stdout)

    def test_other_system_is_refused(self):
        self.stand_in("uname", "echo Darwin")
        self.assert_refused("runs on Linux; this is Darwin")

    def test_other_processor_is_refused(self):
        self.stand_in("uname",
                      "case $1 in -s) echo Linux;; *) echo aarch64;; esac")
        self.assert_refused("runs on x86-64; this is aarch64")

    def test_wsl2_is_refused(self):
        self.stand_in("uname", 'case $1 in -s) echo Linux;; -m) echo x86_64;;'
                      ' *) echo 5.15.90.1-microsoft-standard-WSL2;; esac')
        self.assert_refused("WSL2 is not supported")

    def test_other_libc_is_refused(self):
        self.stand_in("getconf", "exit 1")
        self.assert_refused("needs glibc")

    def test_old_glibc_is_refused(self):
        self.stand_in("getconf", "echo glibc 2.17")
        self.assert_refused("needs glibc 2.28 or newer; this is glibc 2.17")

    def test_without_rights_the_line_to_run_is_printed(self):
        done = self.dev("test")
        self.assertEqual(done.returncode, UNAVAILABLE)
        self.assertIn("Missing packages: gcc libc6-dev meson", done.stdout)
        self.assertIn("apt-get install -y --no-install-recommends gcc",
                      done.stdout)
        self.assertFalse((self.bin / "installed").exists())

    def test_demo_needs_fewer_packages(self):
        self.assertNotIn("libcmocka-dev", self.dev("demo").stdout)
        self.assertIn("libcmocka-dev", self.dev("test").stdout)

    def test_root_installs_what_is_missing(self):
        self.stand_in("id", "echo 0")
        done = self.dev("test")
        installed = (self.bin / "installed").read_text()
        self.assertIn("update -q\n", installed)
        self.assertIn("--no-install-recommends gcc libc6-dev meson", installed)
        # The stand-in installed nothing.
        self.assertEqual(done.returncode, UNAVAILABLE)
        self.assertIn("still missing: gcc", done.stdout)

    def test_on_a_terminal_it_asks_first(self):
        self.stand_in("id", "echo 0")
        for answer, installs in ((b"n\n", False), (b"y\n", True)):
            ours, terminal = pty.openpty()
            os.write(ours, answer)
            done = self.dev("test", stdin=terminal)
            os.close(ours)
            os.close(terminal)
            self.assertIn("Install them now? [Y/n]", done.stdout)
            self.assertEqual((self.bin / "installed").exists(), installs)

    def test_sudo_installs_what_is_missing(self):
        self.stand_in("sudo", 'case $1 in -n) exit 0;; esac; exec "$@"')
        self.dev("test")
        self.assertIn("install -q -y", (self.bin / "installed").read_text())

    def test_other_distribution_is_told_the_names(self):
        (self.bin / "apt-get").unlink()
        done = self.dev("test")
        self.assertEqual(done.returncode, UNAVAILABLE)
        self.assertIn("package manager: gcc libc6-dev meson", done.stdout)

    def test_unknown_command_is_refused(self):
        done = self.dev("frobnicate")
        self.assertEqual(done.returncode, 1)
        self.assertIn("unknown command frobnicate", done.stdout)

    def test_help_names_every_command(self):
        done = self.dev("help")
        self.assertEqual(done.returncode, 0)
        for name in ("demo", "test", "gpu", "bench", "soak", "lint"):
            self.assertIn(f"\n  {name} ", done.stdout)


if __name__ == "__main__":
    unittest.main()
