#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The linker's version script of the preload library.

make_map.py HOOKS.DEF OUT: dlopen, dlsym and the hooked symbols, and nothing
else. They have no version: a program may ask for dlsym at any.
"""

import pathlib
import re
import sys


def names_of(text):
    return re.findall(r"^HOOK\((\w+)", text, re.M)


def main(source, out):
    names = ["dlopen", "dlsym", *names_of(pathlib.Path(source).read_text("utf-8"))]
    lines = ["{", "global:", *(f"\t{name};" for name in names),
             "local:", "\t*;", "};", ""]
    pathlib.Path(out).write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
