#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Counts the tests of one or more meson test runs.

A program of cmocka tests or of Python's unittest counts as many as it ran;
any other counts as one.
A program that ended badly without naming a failed test counts as one failed.
Prints "N passed, N failed, N skipped" and exits 1 when one failed or none ran.
"""

import json
import pathlib
import re
import sys

PASSED = re.compile(r"^\[ +OK +\] ", re.M)
FAILED = re.compile(r"^\[ +(?:FAILED|ERROR) +\] (\w+)$", re.M)
PYTHON_RAN = re.compile(r"^Ran (\d+) tests? in ", re.M)
SKIPPED = re.compile(r"^\[ +SKIPPED +\] (\w+)$", re.M)


def count_program(row):
    """(passed, failed, skipped) of one line of meson's testlog.json."""
    text = (row.get("stdout") or "") + "\n" + (row.get("stderr") or "")
    passed = len(PASSED.findall(text))
    passed += sum(map(int, PYTHON_RAN.findall(text)))
    failed = len(set(FAILED.findall(text)))
    skipped = len(set(SKIPPED.findall(text)))
    result = row["result"]
    if result in ("OK", "EXPECTEDFAIL"):
        return (passed or int(not skipped), 0, skipped)
    if result == "SKIP":
        return (passed, 0, skipped or 1)
    return (passed, failed or 1, skipped)


def count_build(build):
    """Adds up the newest run of a build folder, or of several logs of it."""
    total = (0, 0, 0)
    for log in sorted(pathlib.Path(build, "meson-logs").glob("testlog*.json")):
        for line in log.read_text(encoding="utf-8").splitlines():
            total = tuple(map(sum, zip(total, count_program(json.loads(line)))))
    return total


def main(builds):
    total = (0, 0, 0)
    for build in builds:
        total = tuple(map(sum, zip(total, count_build(build))))
    print("%d passed, %d failed, %d skipped" % total)
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
