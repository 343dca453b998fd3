# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""A daemon for a benchmark: started, asked, ended."""

from __future__ import annotations

import pathlib
import subprocess

import poolswitch

END_S = 30


def round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


class Daemon:
    """Whose parameter region holds models of @bytes, and no more; in host memory
    four of them have room, however small the machine is."""

    def __init__(self, folder, model_bytes: int, segment: int):
        region = round_up(max(model_bytes, 1), segment)
        #: As much as a segment and more, where there is more.
        self.spoiler_bytes = min(segment + 1, region)
        self.socket = str(pathlib.Path(folder) / "socket")
        self._process = subprocess.Popen(
            [poolswitch.program("poolswitchd"), "--socket", self.socket,
             "--size", str(region + segment), "--parameter", str(region),
             "--segment", str(segment), "--host-memory", str(4 * region)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        ready = self._process.stdout.readline()
        if "ready" not in ready:
            raise RuntimeError(f"poolswitchd ended with {self._process.wait()}")

    def models(self) -> dict[str, dict]:
        said = poolswitch.ask("models", socket=self.socket)
        return {model["name"]: model for model in said["models"]}

    def wire(self) -> dict:
        return poolswitch.ask("models", socket=self.socket)["wire"]

    def end(self) -> None:
        poolswitch.ask("shutdown", socket=self.socket)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *unused) -> None:
        self.end()
