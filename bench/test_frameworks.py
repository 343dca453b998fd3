#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""frameworks.py: its arithmetic and its lines; nothing is measured here."""

import pathlib
import tempfile
import unittest

import frameworks
import outcome  # found by what frameworks.py put into the path

MIB = 1 << 20


class Runner:
    """Programs that take a millisecond, and a tenth more with the preload."""

    def under(self, quota, name):
        return ["run"]

    def run(self, argv, env):
        return ""

    def result(self, argv, env):
        is_pooled = argv[0] == "run"
        client = {"leased": 768 * MIB, "segment_bytes": 256 * MIB}
        return {"times": [1.0] * frameworks.WARM
                + [0.0011 if is_pooled else 0.001] * 5,
                "peak": 500 * MIB, "calls": 100,
                "client": client if is_pooled else None}


class FrameworksTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.figures = frameworks.Figures(pathlib.Path(folder.name))
        self.pairs = frameworks.Pairs(Runner(), 3, 1)

    def value(self, metric):
        return {line["metric"]: line["value"]
                for line in self.figures.lines}[metric]

    def met(self):
        return {line["metric"].partition(": ")[2]: line["met"]
                for line in self.figures.lines if line["case"] == "target"}

    def test_interval_is_that_of_student(self):
        low, mean, high = frameworks.interval([1, 2, 3, 4, 5])
        self.assertEqual(mean, 3)
        self.assertAlmostEqual(high - mean, 1.963, 3)
        self.assertAlmostEqual(mean - low, high - mean)

    def test_steps_without_the_warm_ones_are_compared(self):
        frameworks.put_steps(self.figures, self.pairs, "x", ["x.py"])
        self.assertAlmostEqual(self.value("step, driver"), 1)
        self.assertAlmostEqual(self.value("paired difference"), 10)
        self.assertFalse(self.met()["its interval's high end"])

    def test_peak_is_allowed_one_segment(self):
        frameworks.put_steps(self.figures, self.pairs, "x", ["x.py"])
        over = self.value("peak above, but for one segment")
        self.assertAlmostEqual(over, (768 - 256 - 500) / 500 * 100)
        self.assertTrue(self.met()["peak above, but for one segment"])

    def test_calls_are_a_share_of_a_step(self):
        frameworks.put_calls(self.figures, self.pairs, "x", "m", 1.0)
        self.assertAlmostEqual(self.value("calls at 20 ns each, of a step"),
                               0.2)

    def test_skipped_is_the_status_of_meson(self):
        self.assertEqual(outcome.SKIPPED, 77)


if __name__ == "__main__":
    unittest.main()
