# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""own_tests.py OUT WORD...: a framework's own tests, by pytest; writes what
became of each to OUT, {test: outcome}. run.py compares the two runs: nothing
may fail with the preload that passes without."""

import json
import sys

import outcome

pytest, = outcome.need("pytest")


class Outcomes:
    """A plugin of pytest that keeps what became of each test."""

    def __init__(self):
        self.of = {}

    def pytest_runtest_logreport(self, report):
        # The worst of its set-up, itself and its tear-down.
        if report.when == "call" or report.outcome != "passed":
            self.of[report.nodeid] = report.outcome


def main(out, *words):
    outcomes = Outcomes()
    pytest.main(["-q", "-p", "no:cacheprovider", *words],
                plugins=[outcomes])
    with open(out, "w", encoding="utf-8") as file:
        json.dump(outcomes.of, file, indent=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
