# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The programs and libraries that the wheel brings along."""

import os
import pathlib
import sys

_PACKAGE = pathlib.Path(__file__).resolve().parent
#: Installed; in a build folder they lie beside the package's folder.
_PROGRAMS = (_PACKAGE / "_root/bin", _PACKAGE.parents[1] / "cli",
             _PACKAGE.parents[1] / "poold")
_LIBRARIES = (_PACKAGE / "_root/lib", _PACKAGE.parents[1] / "preload")


def _find(name, folders):
    for folder in folders:
        if (folder / name).is_file():
            return str(folder / name)
    raise FileNotFoundError(f"{name} is not in {' nor in '.join(map(str, folders))}")


def program(name: str = "poolswitch") -> str:
    """The path of "poolswitch" or "poolswitchd"."""
    return _find(name, _PROGRAMS)


def preload_path() -> str:
    """The path of the library for LD_PRELOAD."""
    return _find("libpoolswitch_preload.so", _LIBRARIES)


def main() -> None:
    """Become the program poolswitch; preload-path is answered here, where the
    library lies."""
    if sys.argv[1:] == ["preload-path"]:
        print(preload_path())
    else:
        _become("poolswitch")


def daemon() -> None:
    """Become the program poolswitchd."""
    _become("poolswitchd")


def _become(name):
    path = program(name)
    os.execv(path, [path, *sys.argv[1:]])
