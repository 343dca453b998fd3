#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""count_tests.py: what counts as a test, and what as a failed one."""

import unittest

from count_tests import count_program

CMOCKA = """[ RUN      ] test_a
[       OK ] test_a
[ RUN      ] test_b
[       OK ] test_b
"""


class CountTest(unittest.TestCase):
    def test_cases_of_cmocka_are_counted(self):
        self.assertEqual(count_program({"result": "OK", "stdout": CMOCKA}),
                         (2, 0, 0))

    def test_failed_case_counts_once(self):
        row = {"result": "FAIL", "stdout": CMOCKA,
               "stderr": "[  FAILED  ] test_c\n[  FAILED  ] test_c\n"}
        self.assertEqual(count_program(row), (2, 1, 0))

    def test_crash_counts_as_failed(self):
        self.assertEqual(
            count_program({"result": "FAIL", "stdout": CMOCKA}), (2, 1, 0))

    def test_skipped_program_does_not_pass(self):
        self.assertEqual(count_program({"result": "SKIP", "stdout": ""}),
                         (0, 0, 1))

    def test_other_program_counts_once(self):
        self.assertEqual(count_program({"result": "OK", "stdout": "fine"}),
                         (1, 0, 0))

    def test_timeout_counts_as_failed(self):
        self.assertEqual(count_program({"result": "TIMEOUT"}), (0, 1, 0))


if __name__ == "__main__":
    unittest.main()
