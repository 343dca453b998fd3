#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""commit.py SOURCE OUTPUT: writes a C file that names the commit of SOURCE.

Run by the build whenever the checkout moves to another commit, so that a
benchmark names what was built, wherever it is run.
"""

import pathlib
import subprocess
import sys

TEXT = """/* Made by bench/commit.py. */

#include "bench/bench.h"

const char bn_build_commit[] = "{commit}";
"""


def commit_of(source):
    try:
        done = subprocess.run(
            ["git", "-C", source, "rev-parse", "--short=12", "HEAD"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def main(source, output):
    pathlib.Path(output).write_text(TEXT.format(commit=commit_of(source)),
                                    encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
