# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""A daemon of a test's own on the simulated GPU, and files of models."""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

WAIT_S = 30
MISSING = 77


def is_here(module):
    """Whether a module can be imported; what cannot is skipped by its program."""
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def skip_without(*modules):
    missing = [each for each in modules if not is_here(each)]
    if missing:
        print(f"{', '.join(missing)}: not here", file=sys.stderr)
        sys.exit(MISSING)


def main():
    sys.exit(not unittest.main(exit=False).result.wasSuccessful())


class FolderTest(unittest.TestCase):
    """A folder and a simulated GPU of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.set_env("POOLSWITCH_SIM_DIR", str(self.folder / "gpu"))
        self.set_env("XDG_RUNTIME_DIR", str(self.folder / "none"))
        self.set_env("POOLSWITCH_SOCKET", None)

    def set_env(self, name, value):
        before = os.environ.get(name)
        self.addCleanup(self._put_env, name, before)
        self._put_env(name, value)

    @staticmethod
    def _put_env(name, value):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

    def python(self, text, *words, **env):
        """What a program in Python prints; another process."""
        done = subprocess.run(
            [sys.executable, "-c", text, *words], text=True, timeout=WAIT_S,
            stdout=subprocess.PIPE, env={**os.environ, **env}, check=True)
        return done.stdout


class DaemonTest(unittest.TestCase):
    """One GPU and one daemon for all tests of a class: a process has its
    simulated GPU for good."""

    SIZE = "128M"
    SEGMENT = "2M"
    PARAMETER = "16M"
    BANDWIDTH = "0"  # bytes a second; 0: as fast as it goes

    @classmethod
    def setUpClass(cls):
        import poolswitch
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.socket = str(cls.folder / "socket")
        os.environ.setdefault("POOLSWITCH_SIM_DIR", str(cls.folder / "gpu"))
        os.environ["POOLSWITCH_SOCKET"] = cls.socket
        with open(cls.folder / "log", "wb") as log:
            cls.daemon = subprocess.Popen(
                [poolswitch.program("poolswitchd"), "--socket", cls.socket, "--size",
                 cls.SIZE, "--segment", cls.SEGMENT, "--parameter", cls.PARAMETER],
                stdout=subprocess.PIPE, text=True, stderr=log,
                env={**os.environ, "POOLSWITCH_SIM_BANDWIDTH": cls.BANDWIDTH})
        cls.addClassCleanup(cls.end)
        if "ready" not in cls.daemon.stdout.readline():
            raise RuntimeError((cls.folder / "log").read_text())

    @classmethod
    def end(cls):
        import poolswitch
        # A signal lets it wait for its clients, and this process may be one.
        poolswitch.ask("shutdown", socket=cls.socket)
        cls.daemon.wait(WAIT_S)
        cls.daemon.stdout.close()

    def attach(self):
        import poolswitch
        pool = poolswitch.Pool.attach()
        self.addCleanup(pool.close)
        return pool


class SwitchTest(DaemonTest):
    """The parameter region is one segment, and copies are slow: what is loaded
    next lies where the last model lay, and whoever does not wait reads that."""

    PARAMETER = "2M"
    BANDWIDTH = "3M"
    SPOILER = 131072  # at least as long as a model

    @classmethod
    def setUpClass(cls):
        import poolswitch
        super().setUpClass()
        path = write_safetensors(cls.folder / "spoiler", {
            "ones": ("U8", (cls.SPOILER,), b"\xff" * cls.SPOILER)})
        poolswitch.add("spoiler", path)

    @staticmethod
    def spoil():
        """Nothing is left of the model that is there."""
        import poolswitch
        poolswitch.order("load", "spoiler")


def write_safetensors(path, tensors):
    """tensors: name: (dtype, shape, bytes), in order."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)
    return path
